// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Phase is a group of objects that are applied together.
type Phase struct {
	Objects []Wanted
	// Await holds what is new in the next phases back until every object of this one is ready. What was applied before is kept
	// all the same.
	Await bool
	// Shared objects may be there already and are taken over: CRDs, which somebody else may have brought. All others are never
	// taken from somebody else: one that exists without being this mesh's is a [*TakenError].
	Shared bool
	// Adopt takes objects over that exist without being any mesh's, with all that whoever installed them has written: what of it is
	// not wanted goes. It happens before an object is recorded as applied, and never again. Those of another mesh are a [*TakenError].
	Adopt bool
	// Confirmed validating webhooks are ready once istiod has made them fail closed. It does so when the API server has
	// reached it, so that what needs a webhook of the same istiod can be created from then on.
	Confirmed bool
}

// Wanted is one object that is wanted. Its content is asked for only when it has to be written, so that large objects need
// not be kept.
type Wanted struct {
	item    v1alpha1.InventoryItem
	digest  string
	version string
	load    func() (*unstructured.Unstructured, error)
}

// Want wants objects as they are.
func Want(objects []*unstructured.Unstructured) ([]Wanted, error) {
	return WantLater(objects, func(i int) (*unstructured.Unstructured, error) { return objects[i], nil })
}

// WantLater wants objects whose content, equal to the one given here, load returns by its index when it has to be written.
func WantLater(objects []*unstructured.Unstructured, load func(int) (*unstructured.Unstructured, error)) ([]Wanted, error) {
	out := make([]Wanted, len(objects))
	for i, o := range objects {
		digest, err := digestOf(o)
		if err != nil {
			return nil, err
		}
		out[i] = Wanted{
			item: itemOf(o), digest: digest, version: o.GetLabels()[versionLabel],
			load: func() (*unstructured.Unstructured, error) { return load(i) },
		}
	}
	return out, nil
}

// Request is what is wanted of one owner.
type Request struct {
	// Manager is the field manager of server-side apply.
	Manager string
	// Mesh is the value of the mesh label of everything that is wanted.
	Mesh string
	// Phases in their order.
	Phases []Phase
	// Inventory is what was recorded before.
	Inventory []v1alpha1.InventoryItem
	// Observe says that nothing is written or removed: the result tells what is there.
	Observe bool
	// Record keeps an inventory before the first object that is new in it is applied: intent before effect.
	Record func(context.Context, []v1alpha1.InventoryItem) error
}

// Result is what came of a request.
type Result struct {
	// Inventory to record: everything that is wanted and applied, and what could not be pruned yet.
	Inventory []v1alpha1.InventoryItem
	// NotReady are objects that were applied and are not ready, in the order of the phases.
	NotReady []NotReady
	// Applied and Pruned count writes; Corrected counts the applies of objects that had been applied as they are wanted
	// and were changed or removed by somebody else.
	Applied, Pruned, Corrected int
	// Complete says that every phase was reached.
	Complete bool
}

// Ready says whether all that is wanted is there and ready.
func (r Result) Ready() bool { return r.Complete && len(r.NotReady) == 0 }

// NotReady is an object that is not ready, and why.
type NotReady struct {
	Kind, Namespace, Name string
	// Reason is a word: that of a pod where pods are the cause, else that of the object.
	Reason string
	// Message is a sentence.
	Message string
}

func (n NotReady) String() string {
	return fmt.Sprintf("%s %s: %s", n.Kind, join(n.Namespace, n.Name), n.Message)
}

func join(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// Applier applies objects. It can be used from several goroutines.
type Applier struct {
	owned *Owned
	// live reads from the API server, not from a cache.
	live client.Reader
}

// New makes an applier that reads what is there from the owned cache.
func New(owned *Owned, live client.Reader) *Applier { return &Applier{owned: owned, live: live} }

// parallel is how many objects of a phase are applied at a time. CRDs cost the API server a hundred times what others do, and
// would keep those waiting that another controller applies meanwhile.
const (
	parallel     = 8
	parallelCRDs = 2
)

// Apply makes the wanted objects true, phase by phase, and prunes what is recorded but not wanted once all of it is ready.
// With an error, the result holds what is known so far and its inventory can be recorded all the same.
func (a *Applier) Apply(ctx context.Context, r Request) (Result, error) {
	records := index(r.Inventory)
	if err := a.owned.Watch(ctx, kindsOf(r)...); err != nil {
		return Result{Inventory: r.Inventory}, err
	}
	var todo []*task
	for i, phase := range r.Phases {
		for _, o := range phase.Objects {
			t, err := a.examine(ctx, r, phase, o, records)
			if err != nil {
				return Result{Inventory: r.Inventory}, err
			}
			t.phase = i
			todo = append(todo, t)
		}
	}
	if err := a.claim(ctx, r, todo); err != nil {
		return Result{Inventory: r.Inventory}, err
	}
	unwanted := unwantedOf(todo, r.Inventory)
	result := Result{}
	if r.Observe {
		err := a.phases(ctx, r, todo, &result)
		result.Inventory = r.Inventory
		return result, err
	}
	if intents := intentsOf(todo, r.Inventory); intents != nil && r.Record != nil {
		if err := r.Record(ctx, intents); err != nil {
			return Result{Inventory: r.Inventory}, err
		}
	}
	err := a.phases(ctx, r, todo, &result)
	result.Inventory = inventoryOf(todo, unwanted)
	if err != nil || !result.Ready() {
		return result, err
	}
	for len(unwanted) > 0 {
		gone, err := a.prune(ctx, r.Mesh, unwanted[0])
		if err != nil {
			return result, err
		}
		if !gone {
			result.Pruned++
		}
		unwanted = unwanted[1:]
		result.Inventory = inventoryOf(todo, unwanted)
	}
	return result, nil
}

// task is one wanted object on its way.
type task struct {
	phase   int
	wanted  Wanted
	current *unstructured.Unstructured
	record  v1alpha1.InventoryItem
	needed  bool
	// corrects says that the object was applied as it is wanted, and is not so any more.
	corrects                 bool
	shared, confirmed, adopt bool
	// looked says that no such object of somebody else exists, or that it may be adopted and is theirs.
	looked bool
	theirs *metav1.PartialObjectMetadata
	// left says that a newer CRD of somebody else is there: it only gets our label, so that its events reach us.
	left bool
	err  error
}

func (a *Applier) examine(
	ctx context.Context, r Request, phase Phase, w Wanted, records map[itemKey]v1alpha1.InventoryItem,
) (*task, error) {
	t := &task{wanted: w, record: w.item, shared: phase.Shared, confirmed: phase.Confirmed, adopt: phase.Adopt}
	if known, ok := records[keyOf(w.item)]; ok {
		t.record = known
		t.record.Version = w.item.Version
	}
	var err error
	if t.current, err = a.owned.Get(ctx, kindOf(w.item), keyOf(w.item).object()); err != nil {
		return nil, err
	}
	if t.current == nil {
		t.needed, t.corrects = true, t.record.Applied == w.digest
		return t, nil
	}
	if owner := t.current.GetLabels()[v1alpha1.LabelMesh]; !phase.Shared && owner != r.Mesh {
		t.err = &TakenError{Kind: w.item.Kind, Namespace: w.item.Namespace, Name: w.item.Name, Owner: owner}
		return t, nil
	}
	if newer(t.current.GetLabels(), w) {
		return t, nil
	}
	fields, err := fieldsOf(t.current, r.Manager)
	if err != nil {
		return nil, err
	}
	t.needed = t.record.Applied != w.digest || t.record.Fields != fields
	t.corrects = t.needed && t.record.Applied == w.digest
	return t, nil
}

// versionLabel is what Istio's charts write the version of Istio into.
const versionLabel = "app.kubernetes.io/version"

// newer says whether a CRD in the cluster, of which labels are known, comes from a newer Istio than the wanted one: it
// serves both, and would lose fields if it were replaced.
func newer(current map[string]string, w Wanted) bool {
	if w.item.Kind != crdKind.Kind {
		return false
	}
	there, err := semver.NewVersion(current[versionLabel])
	if err != nil {
		return false
	}
	ours, err := semver.NewVersion(w.version)
	return err == nil && there.GreaterThan(ours)
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

func (a *Applier) phases(ctx context.Context, r Request, todo []*task, result *Result) error {
	held := false
	for i, phase := range r.Phases {
		tasks := slices.DeleteFunc(slices.Clone(todo), func(t *task) bool {
			return t.phase != i || held && t.record.Applied == ""
		})
		if !r.Observe {
			if err := a.foreignCRDs(ctx, tasks); err != nil {
				return err
			}
			a.write(ctx, r, tasks)
		}
		for _, t := range tasks {
			if t.needed && t.err == nil && !r.Observe {
				result.Applied++
			}
			if t.corrects && t.err == nil && !r.Observe {
				result.Corrected++
			}
		}
		if err := firstError(tasks); err != nil {
			return err
		}
		ready := true
		for _, t := range tasks {
			why, err := a.notReady(ctx, t, r.Observe)
			if err != nil {
				return err
			}
			if why != nil {
				ready = false
				result.NotReady = append(result.NotReady, *why)
			}
		}
		held = held || phase.Await && !ready
	}
	result.Complete = !held
	return nil
}
