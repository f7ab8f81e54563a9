# Standard errors of flexmix's refit() for one case: the peer of inference.py.
#   Rscript flexmix_refit.R TABLE.csv FAMILY K "FORMULA" "CONCOMITANT" START.csv
# START.csv has the clusters to start from. Prints one line for each coefficient:
# component, name, estimate, standard error, separated by tabs.
suppressMessages(library(flexmix))
args <- commandArgs(trailingOnly = TRUE)
table <- read.csv(args[1])
start <- read.csv(args[6])[[1]]
model <- FLXMRglm(family = args[2])
gate <- if (args[5] == "~ 1") FLXPconstant() else FLXPmultinom(as.formula(args[5]))
fit <- flexmix(as.formula(args[4]), data = table, k = as.integer(args[3]),
               model = model, concomitant = gate, cluster = start,
               control = list(tolerance = 1e-12, iter.max = 5000, minprior = 0))
again <- refit(fit, method = "optim")
error <- sqrt(diag(again@vcov))
for (i in seq_along(error)) {
  cat(names(again@coef)[i], again@coef[i], error[i], sep = "\t")
  cat("\n")
}
