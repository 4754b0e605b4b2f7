#!/usr/bin/env bash
# What make check asks of the Terraform modules: format, validity, the tables of their READMEs, one version of all
# sources, and scripts. Their tests are part of make test: with two tools they take minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
exec go test -vet=off -count=1 -run '^(TestTheTerraformModulesAre.*|TestTheReadmesOfTheTerraformModules.*|TestTheRequiredInputsOf.*|TestScriptsInTheModulesAre.*|TestThePolicyEvaluator.*)$' ./integration
