"""What every config imports, `common`. An installed adv_jax has its configs here, too."""
