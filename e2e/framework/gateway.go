// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/watch"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// GatewayMoment is what a gateway's status and its Service said at a moment.
type GatewayMoment struct {
	At       time.Time
	Versions []v1alpha1.GatewayVersion
	// Shift that is under way; nil when none is.
	Shift *v1alpha1.ShiftStatus
	// Points is the revision that the Service selects; empty when it selects the pods of all.
	Points string
	// Address is the cluster IP and the node ports of the Service.
	Address string
}

// Gateway reads a MeshGateway.
func (e *Env) Gateway(ctx context.Context, key client.ObjectKey) (*v1alpha1.MeshGateway, error) {
	out := &v1alpha1.MeshGateway{}
	return out, e.Client.Get(ctx, key, out)
}

// LookAtGateway says how a gateway is now.
func (e *Env) LookAtGateway(ctx context.Context, key client.ObjectKey) (GatewayMoment, error) {
	gateway, err := e.Gateway(ctx, key)
	if err != nil {
		return GatewayMoment{}, err
	}
	service := &corev1.Service{}
	if err := e.Client.Get(ctx, key, service); err != nil {
		return GatewayMoment{}, err
	}
	return momentOf(gateway, service), nil
}

func momentOf(gateway *v1alpha1.MeshGateway, service *corev1.Service) GatewayMoment {
	ports := make([]string, 0, len(service.Spec.Ports))
	for _, port := range service.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%s:%d", port.Name, port.NodePort))
	}
	return GatewayMoment{
		At: time.Now(), Versions: gateway.Status.Versions, Shift: gateway.Status.Shift,
		Points:  service.Spec.Selector[v1alpha1.IstioRevision],
		Address: service.Spec.ClusterIP + " " + strings.Join(ports, " "),
	}
}

// same says whether two moments differ in nothing but the time.
func (m GatewayMoment) same(other GatewayMoment) bool {
	return m.Points == other.Points && m.Address == other.Address &&
		equality.Semantic.DeepEqual(m.Versions, other.Versions) && equality.Semantic.DeepEqual(m.Shift, other.Shift)
}

// WatchGateway calls a function with each change of a gateway until the context ends, first with how it is. It watches: a share that is
// reached is in the status for some milliseconds only, when the next step follows.
func (e *Env) WatchGateway(ctx context.Context, key client.ObjectKey, changed func(GatewayMoment)) error {
	c, err := client.NewWithWatch(e.Config, client.Options{Scheme: e.Client.Scheme(), Mapper: e.Client.RESTMapper()})
	if err != nil {
		return err
	}
	one := []client.ListOption{client.InNamespace(key.Namespace), client.MatchingFields{"metadata.name": key.Name}}
	gateways, err := c.Watch(ctx, &v1alpha1.MeshGatewayList{}, one...)
	if err != nil {
		return err
	}
	defer gateways.Stop()
	services, err := c.Watch(ctx, &corev1.ServiceList{}, one...)
	if err != nil {
		return err
	}
	defer services.Stop()
	var gateway *v1alpha1.MeshGateway
	var service *corev1.Service
	for last := (GatewayMoment{}); ; {
		var event watch.Event
		var open bool
		select {
		case event, open = <-gateways.ResultChan():
		case event, open = <-services.ResultChan():
		}
		switch o := event.Object.(type) {
		case *v1alpha1.MeshGateway:
			gateway = o
		case *corev1.Service:
			service = o
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !open || event.Type == watch.Error:
			return fmt.Errorf("watching gateway %s: %v", key, event.Object)
		case gateway == nil || service == nil:
			continue
		}
		if moment := momentOf(gateway, service); !moment.same(last) {
			changed(moment)
			last = moment
		}
	}
}

// TraceGateway writes the wanted and the measured share of a gateway's versions, as they change, until the context ends.
func (e *Env) TraceGateway(ctx context.Context, key client.ObjectKey, out io.Writer) error {
	start, last := time.Now(), ""
	return e.WatchGateway(ctx, key, func(m GatewayMoment) {
		if line := m.String(); line != last {
			fmt.Fprintf(out, "t+%-8s %-14s %-16s %s\n", m.At.Sub(start).Round(time.Second), "Traffic", key.Name, line)
			last = line
		}
	})
}

// String is the wanted and the measured share of each version, in a line.
func (m GatewayMoment) String() string {
	parts := make([]string, 0, len(m.Versions))
	for _, v := range m.Versions {
		part := fmt.Sprintf("%s wanted %d%%", v.Revision, v.Weight)
		if v.Measured != "" {
			part += ", measured " + v.Measured
		}
		parts = append(parts, part+fmt.Sprintf(" (%d of %d ready)", v.ReadyReplicas, v.Replicas))
	}
	out := strings.Join(parts, "; ")
	if m.Shift != nil {
		out += "; " + string(m.Shift.State)
	}
	return out
}

// Weight is the wanted percent of a revision; -1 while the gateway has no such version.
func (m GatewayMoment) Weight(revision string) int32 {
	for _, v := range m.Versions {
		if v.Revision == revision {
			return v.Weight
		}
	}
	return -1
}

// GatewayShare is what one weight of a shift came to.
type GatewayShare struct {
	// Weight that was wanted of the new version, in percent.
	Weight int32
	// Measured share of it, in percent; NaN when none was.
	Measured float64
	// State and Message of the shift.
	State   v1alpha1.ShiftState
	Message string
	// Took is how long that weight was wanted until it was reached; 0 when it was not.
	Took time.Duration
}

// SharesOf are the weights that a revision was to have one after the other, and what was measured last of each while it was reached, or at
// all when it was not.
func SharesOf(moments []GatewayMoment, revision string) (out []GatewayShare) {
	var since time.Time
	for _, m := range moments {
		if m.Shift == nil || m.Shift.To != revision {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Weight != m.Shift.Weight {
			since = m.At
			out = append(out, GatewayShare{Weight: m.Shift.Weight, Measured: math.NaN()})
		}
		last, reached := &out[len(out)-1], m.Shift.State == v1alpha1.ShiftReached
		if last.State == v1alpha1.ShiftReached && !reached {
			continue
		}
		if last.State != v1alpha1.ShiftReached && reached {
			last.Took = m.At.Sub(since)
		}
		last.State, last.Message = m.Shift.State, m.Shift.Message
		for _, v := range m.Versions {
			if v.Revision == revision && v.Measured != "" {
				last.Measured = percent(v.Measured)
			}
		}
	}
	return out
}

// percent reads a share as a status has it, such as 9.6%; NaN for anything else.
func percent(text string) float64 {
	number, isPercent := strings.CutSuffix(text, "%")
	out, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercent {
		return math.NaN()
	}
	return out
}
