module github.com/meshwright/meshwright/e2e/cluster/modules/tools

go 1.26.0
