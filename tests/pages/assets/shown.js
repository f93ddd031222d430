{
  const shown = 1;
}
