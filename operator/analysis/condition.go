// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/google/cel-go/cel"
)

// maxCost bounds what a condition may compute.
const maxCost = 10000

// Condition is a compiled condition in CEL over the values of a query.
type Condition struct {
	text    string
	program cel.Program
	// single says that it asks for the one value of a query with one.
	single bool
}

// Text is the condition as it was written.
func (c *Condition) Text() string { return c.text }

// environment has values of any type of number, so that result == 0 is what it looks like.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.Variable("result", cel.DynType), cel.Variable("results", cel.ListType(cel.DynType)), cel.CrossTypeNumericComparisons(true))
})

// Compile compiles a condition: result is the value of a query that has one, results is the list of all values. The error says what
// does not compile, and where.
func Compile(text string) (*Condition, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("is no condition in CEL, such as result < 0.01: %w", err)
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("gives %s, and has to give true or false, such as result < 0.01", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost))
	if err != nil {
		return nil, err
	}
	out := &Condition{text: text, program: program}
	for _, reference := range ast.NativeRep().ReferenceMap() {
		out.single = out.single || reference.Name == "result"
	}
	return out, nil
}

// Met says whether values meet the condition.
func (c *Condition) Met(results []float64) (bool, error) {
	if c.single && len(results) != 1 {
		return false, fmt.Errorf("result stands for one value, and the query gives %d: use results, or sum them up", len(results))
	}
	input := map[string]any{"results": results, "result": math.NaN()}
	if len(results) == 1 {
		input["result"] = results[0]
	}
	out, _, err := c.program.Eval(input)
	if err != nil {
		return false, err
	}
	met, is := out.Value().(bool)
	if !is {
		return false, errors.New("gives neither true nor false")
	}
	return met, nil
}
