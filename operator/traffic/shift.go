// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Decide makes the one decision that is due. It remembers nothing: what is next follows from what is there. Pods come before traffic,
// and traffic leaves before pods do.
func Decide(in Input) Decision {
	in.Base = max(1, in.Base)
	s := shifter{in: in, pointer: in.Pointer, route: in.Route}
	s.old, s.next = s.sizes()
	switch {
	case !in.Old.Exists && in.Weight == 0 && !in.Wanted:
		s.recreate()
	case !in.Old.Exists:
		s.single()
	case in.Weight == 0:
		s.none()
	default:
		s.some()
	}
	d := Decision{Old: s.old, New: s.next, Cap: s.limit, Pointer: s.pointer, Route: s.route, Note: s.note}
	d.Done = s.note == ""
	return d
}

// shifter is one decision on its way.
type shifter struct {
	in        Input
	old, next int32
	limit     int32
	pointer   Pointer
	route     int32
	note      string
}

// sizes are how many pods each version is to have for the share, with what an autoscaler has added in proportion.
func (s *shifter) sizes() (old, next int32) {
	in := s.in
	old, next = in.Base, in.Base
	if in.Type == v1alpha1.ShiftReplicas || in.Type == "" {
		if old, next = Split(in.Base, in.Weight); next == 0 {
			next = 1 // at weight 0 one pod shows whether the version works
		}
	}
	if in.Max == 0 {
		return old, next
	}
	if in.Weight > 50 && !in.Back && !s.arrived() {
		return s.whole()
	}
	if in.Weight > 50 && in.Weight < 100 {
		s.limit = min(old, in.Max)
	}
	// An autoscaler that has raised one side has un-pinned the ratio: the other side follows.
	factor := 1.0
	if in.Weight > 0 && in.Weight < 100 {
		if in.Old.Replicas > old && s.limit == 0 {
			factor = max(factor, float64(in.Old.Replicas)/float64(old))
		}
		if in.New.Replicas > next {
			factor = max(factor, float64(in.New.Replicas)/float64(next))
		}
	}
	raised := func(n int32) int32 { return min(in.Max, int32(float64(n)*factor+0.5)) }
	if s.limit > 0 {
		s.limit = raised(old)
	}
	return raised(old), raised(next)
}

// arrived says whether traffic goes where the weight wants it, and an autoscaler is free to follow it.
func (s *shifter) arrived() bool {
	in := s.in
	switch {
	case in.Weight >= 100 && in.Pointer != ToNew:
		return false
	case in.Type == v1alpha1.ShiftHTTPRoute:
		return in.Route == in.Weight
	case in.Type == v1alpha1.ShiftSelector, in.Weight >= 100:
		return true
	}
	_, next := Split(in.Base, in.Weight)
	return in.Old.Replicas <= shareOfOld(max(next, in.New.Replicas), in.Weight)
}

// whole are the sizes of a share above a half that traffic has not come to yet, for as many pods as an autoscaler has made of the gateway by now:
// what the new version needs is there before the old one gives anything away.
func (s *shifter) whole() (old, next int32) {
	in := s.in
	all := min(in.Max, max(in.Base, in.Old.Replicas, in.New.Replicas))
	if in.Weight >= 100 || in.Type == v1alpha1.ShiftSelector || in.Type == v1alpha1.ShiftHTTPRoute {
		return in.Base, max(min(in.Base, in.Max), (all*in.Weight+99)/100)
	}
	s.limit = shareOfOld(all, in.Weight)
	return s.limit, all
}

// shareOfOld is how many pods the old version has beside a number of new ones, for a share above a half.
func shareOfOld(next, weight int32) int32 {
	old, _ := Split(next, weight)
	return old
}

// aside is the pointer to the old version alone, as far as that can be selected.
func (s *shifter) aside() Pointer {
	if s.in.Loose {
		return ToBoth
	}
	return ToOld
}

// single is the gateway with one version: all is New's.
func (s *shifter) single() {
	s.old, s.limit = -1, 0
	if s.in.Type == v1alpha1.ShiftReplicas || s.in.Type == "" {
		s.next = s.in.Base
	}
	s.point(ToNew, 100)
	s.await()
}

// recreate makes an old version anew that is to have all the traffic again.
func (s *shifter) recreate() {
	s.old = s.in.Base
	s.wait("the old version is made anew")
}

// none keeps traffic from the new version, and takes it away when nobody wants it.
func (s *shifter) none() {
	in := s.in
	s.old = max(in.Base, s.old)
	if s.pointer != s.aside() || s.route != 0 {
		if in.Old.Ready < in.Base && in.New.Ready > 0 && !in.Wanted {
			s.wait(fmt.Sprintf("%d of %d pods of the old version are ready", in.Old.Ready, in.Base))
			return
		}
		s.point(s.aside(), 0)
	}
	if in.Wanted {
		s.await()
		return
	}
	switch {
	case !in.New.Exists:
	case in.Settled && in.Pointer == s.aside() && in.Route == 0:
		s.next = -1
		s.wait("the new version goes")
	default:
		s.wait("traffic leaves the new version")
	}
	if !in.New.Exists {
		s.next = -1
	}
}

// some gives the new version its share, once its pods can take it.
func (s *shifter) some() {
	in := s.in
	all := in.Weight >= 100
	able := in.New.Exists && in.New.Ready >= s.next && in.New.Configured
	if in.Back {
		// Half of the pods that are known to be good serve better than all of those that are not; nothing is added to the others.
		able, s.old, s.limit = in.New.Exists && 2*in.New.Ready >= in.Base, in.Old.Replicas, 0
	}
	target := ToBoth
	switch {
	case all:
		target = ToNew
	case in.Type == v1alpha1.ShiftHTTPRoute, in.Type == v1alpha1.ShiftSelector:
		target = s.aside()
	}
	if !able {
		s.unable()
		return
	}
	if in.Weight > 50 && !in.Back && s.shrinks() && in.Pointer != target {
		s.old = max(in.Base, in.Old.Replicas) // what is taken away is taken away after traffic has come
	}
	s.point(target, in.Weight)
	if in.Final && in.Settled && s.pointer == ToNew && in.Pointer == ToNew && s.route == in.Route && in.New.Ready >= s.next {
		s.old, s.limit = -1, 0
		s.wait("the old version goes")
		return
	}
	s.await()
}

// shrinks says whether the share takes pods from the old version.
func (s *shifter) shrinks() bool { return s.old < s.in.Base }

// unable keeps the old version whole while the new one can't take its share, and traffic with whoever answers. Pods that are not ready
// Kubernetes leaves out by itself.
func (s *shifter) unable() {
	in := s.in
	switch {
	case in.New.Ready == 0 && in.Old.Ready > 0:
		s.point(s.aside(), 0)
	case in.Old.Ready == 0 && in.New.Ready > 0:
		s.point(ToNew, 100)
	}
	if !in.Back {
		s.old = max(s.old, in.Base)
	}
	s.limit = 0
	note := fmt.Sprintf("%d of %d pods of the new version are ready", in.New.Ready, s.next)
	if in.New.Problem != "" {
		note += ": " + in.New.Problem
	} else if in.New.Ready >= s.next {
		note = "the pods of the new version are ready, and not configured like those of the old one yet"
	}
	s.wait(note)
}

// point says where traffic is to go; what is changed has to settle.
func (s *shifter) point(p Pointer, route int32) {
	s.pointer = p
	if s.in.Type == v1alpha1.ShiftHTTPRoute {
		s.route = route
	}
	if s.pointer != s.in.Pointer || s.route != s.in.Route {
		s.wait("traffic is pointed to where it is to go")
	}
}

// await says what is left until everything is as it should be.
func (s *shifter) await() {
	in := s.in
	switch {
	case s.next >= 0 && (!in.New.Exists || in.New.Ready < s.next):
		s.wait(fmt.Sprintf("%d of %d pods of the new version are ready", in.New.Ready, s.next))
		if in.New.Problem != "" {
			s.note += ": " + in.New.Problem
		}
	case in.Wanted && in.Old.Exists && !in.New.Configured:
		s.wait("the pods of the new version are not configured like those of the old one yet")
		if in.New.Problem != "" {
			s.note = "the new version: " + in.New.Problem
		}
	case in.Old.Exists && s.old >= 0 && in.Max == 0 && in.Old.Replicas != s.old, in.Old.Exists && s.limit > 0 && in.Old.Replicas > s.limit:
		s.wait(fmt.Sprintf("the old version comes to %d pods", s.old))
	case in.Old.Exists && s.old >= 0 && in.Old.Ready < s.old && in.Weight < 100:
		s.wait(fmt.Sprintf("%d of %d pods of the old version are ready", in.Old.Ready, s.old))
	case !in.Settled:
		s.wait("it takes some seconds until everybody sends traffic to where it is to go")
	}
}

// wait keeps the first thing that is awaited.
func (s *shifter) wait(note string) {
	if s.note == "" {
		s.note = note
	}
}
