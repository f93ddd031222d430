"""Hybrid HMM-DNN speech recognition: corpora, features, alignments, graphs and decoding."""
