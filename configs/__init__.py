"""The configs that come with adv_jax: one file per experiment."""
