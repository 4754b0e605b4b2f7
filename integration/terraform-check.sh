#!/usr/bin/env bash
# What make check asks of the Terraform modules: format, validity, their tests by Terraform, the tables of their
# READMEs, one version of all sources, what provider 6 has of what they use, and scripts. make test runs their tests by
# OpenTofu too, and applies them. What has not changed is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
exec go test -vet=off -timeout 40m -run '^TestTheTerraformModulesAreFormattedAndValid$|^TestTheTerraformModulesPassTheirTests$/^terraform$|^TestTerraformReadmesListInputsAndOutputs$|^TestTerraformModulesHaveOneVersion$|^TestTerraformUsesWhatProvider6Has$|^TestWhatProvider6LacksIsFound$|^TestRequiredTerraformInputsPassNoNull$|^TestScriptsInTheModulesAreShellcheckClean$|^TestThePolicyEvaluatorDeniesWhatIsNotAllowed$' ./integration
