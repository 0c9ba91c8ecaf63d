"""The modes of every config that its tests build."""

RESNET_METHODS = (
    *("natural", "label_smoothing", "adversarial_mix", "adversarial_backprop"),
    *("lwa", "lwa_rep", "trades", "vat"),
)
RULES = (
    *("momentum", "annealed", "plateau", "bold_driver"),
    *("adagrad", "adadelta", "rmsprop", "adam"),
)
ONLINE_RULES = ("pa", "pa1", "pa2", "least_mean_squares", "softmax")
MODES = {
    "quickstart": ["", "paper", "quick"],
    "catgan_mnist": ["", "quick", "labels=100"],
    "censored_mnist": ["", "quick", "quick,sweep=weight"],
    "dann_mnist": ["", "quick", "quick,sweep=weight"],
    "rbm_mnist": ["", "quick", "chains=data,steps=25", "quick,visible=gaussian"],
    "nce_mnist": ["", "quick", "quick,ratio=2,hidden=20"],
    "dbn_mnist": ["", "quick"],
    "dbm_mnist": ["", "quick", "training=stacked", "quick,pretrained=RUN"],
    "autoencoder_mnist": [
        *("", "quick", "quick,training=stacked", "weights=tied,noise=gaussian"),
        *("net=wide,pretrained=RUN", "quick,net=dbn,weights=tied,pretrained=RUN"),
    ],
    "mlp_mnist": ["", "quick,net=deep", "net=dbn", "net=dbm,pretrained=RUN,labels=100"],
    "odm_mnist": ["", "quick", "labels=1000,sweep=weight"],
    "vae_mnist": ["", "quick", "latent=2"],
    "vae_gan_mnist": ["", "quick"],
    "aae_mnist": ["", "quick", "labels=100", "quick,labels=1000"],
    **{f"{kind}gan_mnist": ["", "quick", "loss=minimax"] for kind in ("", "c", "dc", "lap")},
    "wrn_cifar10": [
        "",
        *(f"quick,method={method}" for method in ("pgd", "fast", "free", "consistency")),
        "model=wrn28_10,method=natural",
    ],
    "resnet_cifar10": ["", "depth=110", *(f"quick,method={name}" for name in RESNET_METHODS)],
    "rules_mnist": [
        *("", "quick", "quick,net=residual,regularizer=affine"),
        *(f"quick,optimizer={name}" for name in RULES),
        *(f"quick,regularizer={name}" for name in ("l1", "max_norm", "dropconnect")),
        "quick,regularizer=morphology,loss=squared_error",
        *(f"quick,net={net},regularizer=dropout" for net in ("mlp", "average", "inception")),
    ],
    "online_mnist": ["", "quick", *(f"quick,rule={name}" for name in ONLINE_RULES)],
    "fast_mnist": ["", "quick", "start=zero"],
    "pgd_mnist": ["", "quick", "method=natural", "quick,method=natural"],
    "trades_mnist": [
        "",
        "quick",
        *(f"quick,method={method}" for method in ("trades_awp", "mart", "natural")),
    ],
    "shallow_mnist": [
        "",
        *(
            f"{mode},model={model},sweep={sweep}"
            for mode in ("paper", "quick")
            for model, sweep in (("A", "none"), ("B", "none"), ("C", "none"), ("B", "eps"))
        ),
        "width=5",
        "quick,width=2000",
    ],
    "shallow_cifar10": ["", "model=A", "quick,model=A", "quick,model=B"],
    "shallow_covtype": [
        "",
        *(
            f"model={model},width={width},inputs={inputs}"
            for model in ("A", "B")
            for width, inputs in ((60, "raw"), (150, "standardized"))
        ),
        "quick,inputs=raw",
        "quick,model=A",
    ],
    "ladder_mnist": [
        "",
        *(
            f"{mode},labels={labels},noise={noise}"
            for mode in ("paper", "quick")
            for labels in ("100", "1000", "full")
            for noise in ("none", "sgn")
        ),
        *(f"table={n}" for n in (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, *range(17, 25))),
        *(f"table=6,noise={noise}" for noise in ("udg", "1n", "qn")),
        *(f"table=8,epochs={epochs}" for epochs in (170, 200, 220)),
        *("table=5,std=0", "table=9,std=0.3", "training=bottom", "labels=100,training=gamma"),
        *("labels=1000,training=bottom", "noise=sgn,std=0,attacked=all"),
        "quick,unlabeled_noise=udg",
    ],
    "ladder_conv_mnist": [
        *("", "quick", "net=fc", "training=supervised", "table=15", "table=26"),
        *("table=15,block=last", "table=15,block=regular"),
        "training=supervised,labels=full",
    ],
    "ladder_cifar10": [
        *("", "quick", "training=supervised", "table=16", "table=28"),
        *("table=16,block=last", "table=16,block=regular"),
        "training=supervised,labels=full",
    ],
    "huang_mlp_mnist": [
        "",
        "quick",
        *(f"method={name}" for name in ("normal", "dropout", "goodfellow", "lwa", "lwa_rep")),
        "method=lwa_rep_relative",
        "method=lwa_alpha",
    ],
    "huang_lenet_mnist": ["", "quick", "method=normal", "method=lwa"],
    "huang_vgg_cifar10": [
        "",
        "quick",
        *(f"method={name}" for name in ("normal", "dropout", "lwa", "lwa_rep")),
    ],
    "backprop_mnist": [
        "",
        "quick",
        *(f"activation={act},width={w}" for act, w in (("sigmoid", 400), ("tanh", 1200))),
        "quick,method=plain,width=400",
        "method=dropout",
    ],
    "backprop_cifar10": [
        "",
        "quick",
        *(
            f"quick,net={net},method={method},preprocess={preprocess}"
            for net, method, preprocess in (
                ("fc", "adversarial", "simple"),
                ("fc", "adversarial_dropout", "zca"),
                ("conv", "dropout", "zca"),
            )
        ),
        "net=fc,method=plain",
    ],
    "goodfellow_cifar10": ["", "quick"],
    "goodfellow_mnist": [
        "",
        *(f"model={model}" for model in ("relu", "tanh", "softmax")),
        *(f"method={method}" for method in ("adversarial", "iterative", "teacher")),
        *(f"method=smoothing,form={form}" for form in ("printed", "uniform", "others")),
        *(f"quick,method={method},source=RUN" for method in ("distillation", "dae")),
        *("quick", "quick,model=conv", "quick,method=vat,labels=100"),
    ],
}
