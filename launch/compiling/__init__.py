"""Programs compiled for accelerators that are not there: the room of `python -m launch.compile`.

`topologies` finds the devices by name: `tpus` and `gpus` know them and compile for them, `target`
is what both have. `programs` compiles the functions of a run and says what they take, with `flops`,
`collectives` and `kernels`, which count. `tpu_cases` and `gpu_cases` are what `launch.tpu` and
`launch.gpu` compile, on the noise of `on_noise` and `shapes`. `cases` chooses among them and stores
their documents, of which `tpu_page` and `gpu_page` write the pages, with the text of `cells`.
"""
