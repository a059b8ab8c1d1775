"""How the cells of a plan get computed: by processes of this machine, or by a cluster."""
