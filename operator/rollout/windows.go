// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// ParseWindow reads schedule and time zone of a window. As with CronJobs, a time that a change to summer time leaves out does
// not open a window on that day (in the few zones that leave out midnight, what a schedule with days of the week or month has
// on that day is not announced before), and one that comes twice opens it twice; the duration is elapsed time, whatever the clocks on the wall do meanwhile.
func ParseWindow(w v1alpha1.Window) (cron.Schedule, error) {
	zone := w.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return nil, fmt.Errorf("timeZone %q is no name of the IANA database, such as Europe/Berlin", zone)
	}
	if strings.Contains(w.Schedule, "TZ=") {
		return nil, fmt.Errorf("schedule %q names a time zone: write it into timeZone", w.Schedule)
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(w.Schedule)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w; write the five fields of cron, such as 0 2 * * 6", w.Schedule, err)
	}
	if spec, ok := parsed.(*cron.SpecSchedule); ok {
		spec.Location = location
	}
	if parsed.Next(time.Unix(0, 0)).IsZero() {
		return nil, fmt.Errorf("schedule %q never comes: there is no such day", w.Schedule)
	}
	return parsed, nil
}

// Open says whether a window is open at a time, and when that changes; zero when it never does. Without windows it always is. A
// window that can't be read is closed.
func Open(windows []v1alpha1.Window, now time.Time) (open bool, until time.Time) {
	if len(windows) == 0 {
		return true, time.Time{}
	}
	for _, w := range windows {
		schedule, err := ParseWindow(w)
		if err != nil {
			continue
		}
		length := time.Duration(w.DurationSeconds) * time.Second
		// The first opening after now minus the length is either one that is still open or the next one.
		opens := schedule.Next(now.Add(-length))
		switch {
		case opens.IsZero(): // such a day never comes
		case opens.After(now):
			if !open && (until.IsZero() || opens.Before(until)) {
				until = opens
			}
		default:
			closes := opens.Add(length)
			for next := schedule.Next(opens); !next.IsZero() && !next.After(now); next = schedule.Next(next) {
				closes = next.Add(length)
			}
			if !open || closes.After(until) {
				until = closes
			}
			open = true
		}
	}
	return open, until.UTC()
}
