"""One generalist and many specialists: Hinton et al. (2015), sec. 5."""
