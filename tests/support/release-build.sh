#!/usr/bin/env bash
# Builds with optimizations what is shipped and what benchmarks run, and nothing else of the tests. One command for all who
# need it: another selection of packages would build the dependencies once more, with other features.

exec cargo build --release --locked -p freshet-cli -p freshet-producer -p freshet-worker -p freshet-tests \
    --bin freshet --bin producer --bin worker \
    --bin bench --bin bench-provider --bin bench-floor --bin bench-collector "$@"
