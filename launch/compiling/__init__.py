"""Programs compiled for accelerators that are not there: the room of `python -m launch.compile`.

`programs` compiles the functions of a run and says what they take; `tpus` knows the chips. The
pages of `python -m launch.tpu` are `tpu_cases`, what is compiled, and `tpu_page`, which writes it.
"""
