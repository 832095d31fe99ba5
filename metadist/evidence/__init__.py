"""Evidence on the same fixed tasks, in pairs: a run beside what its support sets give alone (`baselines`), beside the
same network without meta-learning (`controls`), and beside another run (`compare`)."""
