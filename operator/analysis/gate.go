// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// maxMessage is what the API allows in the message of a gate.
const maxMessage = 1024

// Count takes a measurement into the progress of a gate; one that is not newer than the last was counted already. A gate that has
// failed or passed stays so.
func Count(c v1alpha1.Cadence, g v1alpha1.GateProgress, m Measurement) v1alpha1.GateProgress {
	if g.Last != nil && !m.At.After(g.Last.Time) || g.State == v1alpha1.GatePassed || g.State == v1alpha1.GateFailed {
		return g
	}
	g.Last, g.Message = &metav1.Time{Time: m.At}, shorten(m.Note)
	switch m.Outcome {
	case Success:
		g.Succeeded, g.Inconclusive = g.Succeeded+1, 0
	case Failure:
		g.Failed, g.Inconclusive = g.Failed+1, 0
	default:
		g.Inconclusive++
	}
	switch {
	case g.Failed > c.FailureLimit:
		g.State = v1alpha1.GateFailed
	case g.Succeeded >= max(1, c.Count):
		g.State = v1alpha1.GatePassed
	case g.Inconclusive > c.InconclusiveLimit:
		g.State = v1alpha1.GateInconclusive
	default:
		g.State = v1alpha1.GateMeasuring
	}
	return g
}

func shorten(note string) string {
	if len(note) <= maxMessage {
		return note
	}
	return strings.ToValidUTF8(note[:maxMessage-3], "") + "..."
}

// Next is when a gate is to be measured next, in a step that was entered at a time.
func Next(c v1alpha1.Cadence, g v1alpha1.GateProgress, entered time.Time) time.Time {
	if g.Last == nil {
		return entered.Add(time.Duration(c.InitialDelaySeconds) * time.Second)
	}
	return g.Last.Add(time.Duration(max(1, c.IntervalSeconds)) * time.Second)
}

// Judge says what the values of a query mean: no value, or one that is no number, is no data, and says nothing.
func Judge(r Resolved, results []float64) (Outcome, string) {
	said := make([]string, len(results))
	for i, v := range results {
		if math.IsNaN(v) {
			return Inconclusive, "no data: the query gives NaN; is there traffic?"
		}
		said[i] = strconv.FormatFloat(v, 'g', 4, 64)
	}
	if len(results) == 0 {
		return Inconclusive, "no data: the query gives nothing; is there traffic, and does the server scrape the pods?"
	}
	value := "the query gives " + strings.Join(said, ", ")
	for _, judged := range []struct {
		condition *Condition
		name      string
		met       Outcome
	}{{r.Failure, "failureCondition", Failure}, {r.Success, "successCondition", Success}} {
		if judged.condition == nil {
			continue
		}
		met, err := judged.condition.Met(results)
		if err != nil {
			return Inconclusive, fmt.Sprintf("%s: %s: %v", value, judged.name, err)
		}
		if met {
			return judged.met, value + ": " + judged.condition.Text()
		}
	}
	switch {
	case r.Failure == nil:
		return Failure, value + ", which is not " + r.Success.Text()
	case r.Success == nil:
		return Success, value + ", which is not " + r.Failure.Text()
	}
	return Inconclusive, value + ", which meets neither condition"
}
