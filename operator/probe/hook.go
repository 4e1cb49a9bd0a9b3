// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"k8s.io/utils/clock"
)

// Question is the body of what a hook is asked, in version 1.
type Question struct {
	// Version of this body: 1.
	Version int `json:"version"`
	// Gate is the name of the hook, When it is asked: Before, During or After.
	Gate string `json:"gate"`
	When string `json:"when"`
	// Mesh, Rollout and the UID of the latter.
	Mesh       string `json:"mesh"`
	Rollout    string `json:"rollout"`
	RolloutUID string `json:"rolloutUID"`
	// Step by its name; empty before the first.
	Step string `json:"step"`
	// From and To are the revisions.
	From Side `json:"from"`
	To   Side `json:"to"`
	// Time of the question.
	Time time.Time `json:"time"`
	// Delivery is the same in each retry, and sent as a header.
	Delivery string `json:"-"`
}

// Side is one side of a rollout.
type Side struct {
	Revision string `json:"revision"`
	Version  string `json:"version"`
}

// Answer of a hook.
type Answer struct {
	Yes bool
	// Message of the server, in one line.
	Message string
}

// maxSaid is how much of what a server says is passed on.
const maxSaid = 300

// Ask asks a web server. Status 200 to 299 is a yes, 409 and 412 are a no. Everything else, and no answer, is an error, which says
// nothing of the version.
func (p *Prober) Ask(ctx context.Context, to Endpoint, q Question) (Answer, error) {
	q.Version = 1
	body, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	status, said, err := post(ctx, clock.RealClock{}, to, "application/json", q.Delivery, body)
	if err != nil {
		return Answer{}, fmt.Errorf("hook %s: %w", q.Gate, err)
	}
	message := messageOf(said)
	switch {
	case status >= http.StatusOK && status < http.StatusMultipleChoices:
		return Answer{Yes: true, Message: orStatus(message, status)}, nil
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		return Answer{Message: orStatus(message, status)}, nil
	}
	return Answer{}, fmt.Errorf("hook %s answers %s: 2xx is a yes, 409 and 412 are a no, and this says nothing", q.Gate, orStatus(message, status))
}

func orStatus(message string, status int) string {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	if message != "" {
		text += ": " + message
	}
	return text
}

// messageOf is the field message of a JSON answer, in one line and not too long.
func messageOf(answer []byte) string {
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &said) != nil {
		return ""
	}
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, said.Message)
	if runes := []rune(line); len(runes) > maxSaid {
		return string(runes[:maxSaid]) + "..."
	}
	return line
}
