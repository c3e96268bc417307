"""The workloads of benchmarks/speed.py: one module each, with a function ``run(rounds)``.

``run`` returns rows for the table and lines (str) to print below it.
"""

#: Workload names and their modules.
WORKLOADS = {
    "maml-mlp": "maml_mlp",
    "maml-conv4": "maml_conv4",
    "protonet-conv4": "protonet_conv4",
    "scoring": "scoring",
    "fit-predict": "fit_predict",
    "many-tasks": "many_tasks",
    "sharing": "sharing",
    "import": "importing",
    "memory": "memory",
}
