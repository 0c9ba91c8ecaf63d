"""The module that every config imports, `common`; in an installed adv_jax also all configs."""
