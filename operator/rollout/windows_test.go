// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

const hour = int32(3600)

// at reads a time, such as 2026-03-29T01:30:00Z; empty: never.
func at(t *testing.T, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	moment, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

func window(schedule string, seconds int32, zone string) v1alpha1.Window {
	return v1alpha1.Window{Schedule: schedule, DurationSeconds: seconds, TimeZone: zone}
}

// look is what Open says at one time.
type look struct {
	reason string
	now    string
	open   bool
	until  string
}

func TestOpen(t *testing.T) {
	nightly := window("0 2 * * *", 2*hour, "")
	tests := []struct {
		name    string
		windows []v1alpha1.Window
		looks   []look
	}{
		{"no windows", nil, []look{
			{"workloads move at any time, and that never changes", "2026-03-02T12:00:00Z", true, ""},
		}},
		{"one window", []v1alpha1.Window{nightly}, []look{
			{"it opens later today", "2026-03-02T01:59:59Z", false, "2026-03-02T02:00:00Z"},
			{"it has just opened", "2026-03-02T02:00:00Z", true, "2026-03-02T04:00:00Z"},
			{"it is open", "2026-03-02T03:00:00Z", true, "2026-03-02T04:00:00Z"},
			{"it is about to close", "2026-03-02T03:59:59Z", true, "2026-03-02T04:00:00Z"},
			{"its end is not in it", "2026-03-02T04:00:00Z", false, "2026-03-03T02:00:00Z"},
			{"it opens on the next day", "2026-03-02T12:00:00Z", false, "2026-03-03T02:00:00Z"},
			{"a time of another zone is the same time", "2026-03-02T05:00:00+02:00", true, "2026-03-02T04:00:00Z"},
		}},
		{"a window over midnight and over the end of the week", []v1alpha1.Window{window("0 22 * * 6", 6*hour, "")}, []look{
			{"it was opened yesterday", "2026-03-08T01:00:00Z", true, "2026-03-08T04:00:00Z"},
			{"it opens on Saturday", "2026-03-08T04:00:00Z", false, "2026-03-14T22:00:00Z"},
		}},
		{"a window that opens again before it closes", []v1alpha1.Window{window("0 2,3 * * *", 2*hour, "")}, []look{
			{"it closes when the first opening ends, as far as that is known", "2026-03-02T02:30:00Z", true, "2026-03-02T04:00:00Z"},
			{"the second opening ends later", "2026-03-02T03:30:00Z", true, "2026-03-02T05:00:00Z"},
			{"it is open on from the first opening's end", "2026-03-02T04:00:00Z", true, "2026-03-02T05:00:00Z"},
			{"both have ended", "2026-03-02T05:00:00Z", false, "2026-03-03T02:00:00Z"},
		}},
		{"a window that never closes", []v1alpha1.Window{window("0 * * * *", 2*hour, "")}, []look{
			{"an opening takes over from the one before", "2026-03-02T12:00:00Z", true, "2026-03-02T14:00:00Z"},
			{"until never lies in the past", "2026-03-02T13:59:59Z", true, "2026-03-02T15:00:00Z"},
		}},
		{"windows that overlap", []v1alpha1.Window{nightly, window("0 3 * * *", 2*hour, "")}, []look{
			{"one is open", "2026-03-02T02:30:00Z", true, "2026-03-02T04:00:00Z"},
			{"both are open: the last one to close says until when", "2026-03-02T03:30:00Z", true, "2026-03-02T05:00:00Z"},
			{"one has closed", "2026-03-02T04:30:00Z", true, "2026-03-02T05:00:00Z"},
		}},
		{"the order of windows means nothing", []v1alpha1.Window{window("0 3 * * *", 2*hour, ""), nightly}, []look{
			{"both are open: the last one to close says until when", "2026-03-02T03:30:00Z", true, "2026-03-02T05:00:00Z"},
			{"neither is: the first one to open says when", "2026-03-02T12:00:00Z", false, "2026-03-03T02:00:00Z"},
		}},
		{"several windows", []v1alpha1.Window{window("0 2 * * 6", 4*hour, ""), window("0 20 * * 3", hour, "")}, []look{
			{"the next one to open is that of Wednesday", "2026-03-02T12:00:00Z", false, "2026-03-04T20:00:00Z"},
			{"Wednesday evening", "2026-03-04T20:30:00Z", true, "2026-03-04T21:00:00Z"},
			{"the next one to open is that of Saturday", "2026-03-04T21:00:00Z", false, "2026-03-07T02:00:00Z"},
			{"Saturday morning", "2026-03-07T05:00:00Z", true, "2026-03-07T06:00:00Z"},
		}},
		{"a window that can't be read", []v1alpha1.Window{window("at night", hour, "")}, []look{
			{"it is closed: nothing moves when nobody wanted it", "2026-03-02T02:30:00Z", false, ""},
		}},
		{"a zone that can't be read", []v1alpha1.Window{window("0 2 * * *", hour, "Europe/Nowhere")}, []look{
			{"it is closed in all zones", "2026-03-02T02:30:00Z", false, ""},
		}},
		{"a window that can't be read beside one that can", []v1alpha1.Window{window("at night", hour, ""), nightly}, []look{
			{"the other one is open", "2026-03-02T02:30:00Z", true, "2026-03-02T04:00:00Z"},
			{"the other one opens", "2026-03-02T04:30:00Z", false, "2026-03-03T02:00:00Z"},
		}},
		{"a day that never comes", []v1alpha1.Window{window("0 2 30 2 *", hour, "")}, []look{
			{"it never opens", "2026-03-02T02:30:00Z", false, ""},
		}},
		{"a day that never comes beside one that does", []v1alpha1.Window{window("0 2 30 2 *", hour, ""), nightly}, []look{
			{"the other one is open", "2026-03-02T02:30:00Z", true, "2026-03-02T04:00:00Z"},
			{"the other one opens", "2026-03-02T04:30:00Z", false, "2026-03-03T02:00:00Z"},
		}},
		{"the 29th of February", []v1alpha1.Window{window("0 2 29 2 *", hour, "")}, []look{
			{"it is two years away", "2026-03-02T02:30:00Z", false, "2028-02-29T02:00:00Z"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { compare(t, tt.windows, tt.looks) })
	}
}

// compare looks at windows at several times.
func compare(t *testing.T, windows []v1alpha1.Window, looks []look) {
	t.Helper()
	for _, l := range looks {
		open, until := Open(windows, at(t, l.now))
		if want := at(t, l.until); open != l.open || !until.Equal(want) {
			t.Errorf("at %s: %t until %s, want %t until %s: %s",
				l.now, open, until.Format(time.RFC3339), l.open, want.Format(time.RFC3339), l.reason)
		}
		if until.Location() != time.UTC {
			t.Errorf("at %s: the end is in zone %s, want UTC: it is written to a status", l.now, until.Location())
		}
	}
}

// In 2026 the clocks of Berlin go from 02:00 CET to 03:00 CEST on March 29 (01:00 UTC), and from 03:00 CEST to 02:00 CET on
// October 25 (01:00 UTC).
func TestOpenAcrossSummerTime(t *testing.T) {
	const berlin = "Europe/Berlin"
	tests := []struct {
		name   string
		window v1alpha1.Window
		looks  []look
	}{
		{"a time of the wall, in winter and in summer", window("0 4 * * *", hour, berlin), []look{
			{"04:00 CET", "2026-03-28T03:30:00Z", true, "2026-03-28T04:00:00Z"},
			{"04:00 CEST, on the very day of the change", "2026-03-29T02:30:00Z", true, "2026-03-29T03:00:00Z"},
			{"it is 05:30 by now, what was 04:30 yesterday", "2026-03-29T03:30:00Z", false, "2026-03-30T02:00:00Z"},
			{"04:00 CEST", "2026-10-24T02:30:00Z", true, "2026-10-24T03:00:00Z"},
			{"03:30 CET, what was 04:30 yesterday", "2026-10-25T02:30:00Z", false, "2026-10-25T03:00:00Z"},
			{"04:00 CET", "2026-10-25T03:30:00Z", true, "2026-10-25T04:00:00Z"},
		}},
		{"a time that the change to summer time leaves out", window("30 2 * * *", hour, berlin), []look{
			{"the day before", "2026-03-28T01:30:00Z", true, "2026-03-28T02:30:00Z"},
			{"there is no 02:30 on that day: the next one is on the 30th", "2026-03-28T02:30:00Z", false, "2026-03-30T00:30:00Z"},
			{"just before the change", "2026-03-29T00:59:59Z", false, "2026-03-30T00:30:00Z"},
			{"03:00 CEST does not stand for it", "2026-03-29T01:00:00Z", false, "2026-03-30T00:30:00Z"},
			{"nor does 03:30 CEST", "2026-03-29T01:30:00Z", false, "2026-03-30T00:30:00Z"},
			{"the day after", "2026-03-30T00:30:00Z", true, "2026-03-30T01:30:00Z"},
		}},
		{"a weekly time that the change to summer time leaves out", window("30 2 * * 0", hour, berlin), []look{
			{"the Sunday before", "2026-03-22T01:30:00Z", true, "2026-03-22T02:30:00Z"},
			{"that Sunday has none, so the mesh waits another week", "2026-03-22T02:30:00Z", false, "2026-04-05T00:30:00Z"},
		}},
		{"the hour to which the change leads", window("0 3 * * *", hour, berlin), []look{
			{"03:00 CEST is there", "2026-03-29T01:00:00Z", true, "2026-03-29T02:00:00Z"},
		}},
		{"a window that is open while the hour is left out", window("0 1 * * *", 3*hour, berlin), []look{
			{"it opens at 01:00 CET", "2026-03-29T00:00:00Z", true, "2026-03-29T03:00:00Z"},
			{"three hours have not passed, though the wall says 04:30", "2026-03-29T02:30:00Z", true, "2026-03-29T03:00:00Z"},
			{"it closes at 05:00 CEST: three hours of elapsed time", "2026-03-29T03:00:00Z", false, "2026-03-29T23:00:00Z"},
		}},
		{"a window that is open while an hour comes twice", window("0 1 * * *", 3*hour, berlin), []look{
			{"it opens at 01:00 CEST", "2026-10-24T23:00:00Z", true, "2026-10-25T02:00:00Z"},
			{"the second 02:30 is in it", "2026-10-25T01:30:00Z", true, "2026-10-25T02:00:00Z"},
			{"it closes at 03:00 CET: three hours of elapsed time", "2026-10-25T02:00:00Z", false, "2026-10-26T00:00:00Z"},
		}},
		// As with CronJobs, what comes twice opens twice.
		{"a time that comes twice", window("30 2 * * *", hour/2, berlin), []look{
			{"the day before", "2026-10-24T00:30:00Z", true, "2026-10-24T01:00:00Z"},
			{"02:30 CEST", "2026-10-25T00:30:00Z", true, "2026-10-25T01:00:00Z"},
			{"the first one has closed, and the second one comes", "2026-10-25T01:00:00Z", false, "2026-10-25T01:30:00Z"},
			{"02:30 CET", "2026-10-25T01:30:00Z", true, "2026-10-25T02:00:00Z"},
			{"the second one has closed too", "2026-10-25T02:00:00Z", false, "2026-10-26T01:30:00Z"},
		}},
		{"a time that comes twice in one long window", window("30 2 * * *", 2*hour, berlin), []look{
			{"02:30 CEST", "2026-10-25T00:30:00Z", true, "2026-10-25T02:30:00Z"},
			{"02:30 CET opens it for two hours more", "2026-10-25T01:30:00Z", true, "2026-10-25T03:30:00Z"},
			{"it has closed", "2026-10-25T03:30:00Z", false, "2026-10-26T01:30:00Z"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { compare(t, []v1alpha1.Window{tt.window}, tt.looks) })
	}
}

// In Beirut the clocks go from 00:00 to 01:00 on March 29, 2026, a Sunday: 02:00 is there.
func TestOpenWhereMidnightIsLeftOut(t *testing.T) {
	t.Run("a time of every day", func(t *testing.T) {
		compare(t, []v1alpha1.Window{window("0 2 * * *", hour, "Asia/Beirut")}, []look{
			{"02:00 in summer time", "2026-03-28T23:00:00Z", true, "2026-03-29T00:00:00Z"},
		})
	})
	t.Run("a time of that weekday, which is not announced the day before", func(t *testing.T) {
		compare(t, []v1alpha1.Window{window("0 2 * * 0", hour, "Asia/Beirut")}, []look{
			{"the evening before", "2026-03-28T20:00:00Z", false, "2026-04-04T23:00:00Z"},
			{"02:00 in summer time", "2026-03-28T23:00:00Z", true, "2026-03-29T00:00:00Z"},
		})
	})
}

func TestParseWindow(t *testing.T) {
	const zones = "no name of the IANA database, such as Europe/Berlin"
	const columns = "write the five fields of cron, such as 0 2 * * 6"
	tests := []struct {
		name   string
		reason string
		window v1alpha1.Window
		// says are parts of the error; none: it can be read.
		says []string
	}{
		{"no zone", "UTC is the default", window("0 2 * * 6", hour, ""), nil},
		{"names of days and months", "people write them", window("0 2 ? jan-mar SAT,SUN", hour, "Europe/Berlin"), nil},
		{"steps", "as in cron", window("*/15 0-4/2 1 * *", hour, "America/New_York"), nil},
		{
			"no zone of the database", "it names the zone",
			window("0 2 * * 6", hour, "Berlin"),
			[]string{"timeZone", `"Berlin"`, zones},
		},
		{
			"the zone of the operator's machine", "nobody knows what zone the operator's container has",
			window("0 2 * * 6", hour, "Local"),
			[]string{"timeZone", `"Local"`, zones},
		},
		{"a path", "a zone is no file", window("0 2 * * 6", hour, "../../etc/passwd"), []string{"timeZone", zones}},
		{"too few columns", "it says which are wanted", window("0 2 * * ", hour, ""), []string{`schedule "0 2 * * "`, columns}},
		{"seconds", "they are no column", window("0 0 2 * * 6", hour, ""), []string{`schedule "0 0 2 * * 6"`, columns}},
		{"a word", "it says what is wanted", window("every night", hour, ""), []string{`schedule "every night"`, columns}},
		{
			"a descriptor", "the API has five columns only",
			window("@midnight", hour, ""),
			[]string{`schedule "@midnight"`, "descriptors", columns},
		},
		{
			"an hour that there is not", "it says which are",
			window("0 24 * * *", hour, ""),
			[]string{`schedule "0 24 * * *"`, "(24) above maximum (23)", columns},
		},
		{
			"Sunday as 7", "days are 0 to 6",
			window("0 2 * * 7", hour, ""),
			[]string{`schedule "0 2 * * 7"`, "(7) above maximum (6)", columns},
		},
		{
			"zone and schedule are wrong", "one error at a time: the zone's",
			window("every night", hour, "Berlin"),
			[]string{"timeZone", `"Berlin"`, zones},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			schedule, err := ParseWindow(tt.window)
			if len(tt.says) == 0 {
				if err != nil || schedule == nil {
					t.Errorf("it can't be read, but %s: %v", tt.reason, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("it can be read; want an error: %s", tt.reason)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q: %s", err, part, tt.reason)
				}
			}
		})
	}
}

// A zone is a field of its own. What cron takes for one in a schedule is to be refused, and is not to end the operator.
func TestParseWindowRefusesAZoneInTheSchedule(t *testing.T) {
	for _, schedule := range []string{"TZ=UTC123", "CRON_TZ=Europe/Berlin", "TZ=Asia/Tokyo 0 2 * * *"} {
		if _, err := ParseWindow(window(schedule, hour, "")); err == nil || !strings.Contains(err.Error(), "schedule") {
			t.Errorf("schedule %q: %v, want an error that names the schedule", schedule, err)
		}
	}
}
