// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Phase is a group of objects that are applied together.
type Phase struct {
	Objects []Wanted
	// Await holds the next phase back until every object of this one is ready.
	Await bool
	// Exclusive objects are never taken from somebody else: one that exists without being this mesh's is a [*TakenError].
	Exclusive bool
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

// parallel is how many objects of a phase are applied at a time.
const parallel = 8

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
	unwanted := unwantedOf(todo, r.Inventory)
	result := Result{}
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
	corrects             bool
	exclusive, confirmed bool
	// left says that a newer CRD of somebody else is there: it only gets our label, so that its events reach us.
	left bool
	err  error
}

func (a *Applier) examine(
	ctx context.Context, r Request, phase Phase, w Wanted, records map[itemKey]v1alpha1.InventoryItem,
) (*task, error) {
	t := &task{wanted: w, record: w.item, exclusive: phase.Exclusive, confirmed: phase.Confirmed}
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
	if owner := t.current.GetLabels()[v1alpha1.LabelMesh]; phase.Exclusive && owner != r.Mesh {
		t.err = &TakenError{Kind: w.item.Kind, Name: w.item.Name, Owner: owner}
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
	for i, phase := range r.Phases {
		tasks := slices.DeleteFunc(slices.Clone(todo), func(t *task) bool { return t.phase != i })
		if err := a.foreignCRDs(ctx, tasks); err != nil {
			return err
		}
		a.write(ctx, r, tasks)
		for _, t := range tasks {
			if t.needed && t.err == nil {
				result.Applied++
			}
			if t.corrects && t.err == nil {
				result.Corrected++
			}
		}
		if err := firstError(tasks); err != nil {
			return err
		}
		ready := true
		for _, t := range tasks {
			why, err := a.notReady(ctx, t)
			if err != nil {
				return err
			}
			if why != nil {
				ready = false
				result.NotReady = append(result.NotReady, *why)
			}
		}
		if phase.Await && !ready {
			return nil
		}
	}
	result.Complete = true
	return nil
}

// write applies what needs it. One object that fails holds back no other of its phase.
func (a *Applier) write(ctx context.Context, r Request, tasks []*task) {
	// The API server refuses a binding whose role is not there yet.
	binding := func(t *task) bool { return strings.HasSuffix(t.record.Kind, "RoleBinding") }
	a.writeAtOnce(ctx, r, slices.DeleteFunc(slices.Clone(tasks), binding))
	a.writeAtOnce(ctx, r, slices.DeleteFunc(slices.Clone(tasks), func(t *task) bool { return !binding(t) }))
}

func (a *Applier) writeAtOnce(ctx context.Context, r Request, tasks []*task) {
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, t := range tasks {
		if !t.needed || t.err != nil {
			continue
		}
		group.Go(func() error {
			t.err = a.apply(ctx, r, t)
			return nil
		})
	}
	_ = group.Wait() // each task holds its own error
}

// firstError is the first error in the order of tasks, so that the same trouble always has the same words. One that may
// pass goes before one that will not: it has to be tried again soon.
func firstError(tasks []*task) error {
	var terminal error
	for _, t := range tasks {
		switch {
		case t.err == nil:
		case !IsTerminal(t.err):
			return t.err
		case terminal == nil:
			terminal = t.err
		}
	}
	return terminal
}

// foreignCRDs looks once at all CRDs of the cluster when one of ours is not in the cache: somebody else may have brought a
// newer one.
func (a *Applier) foreignCRDs(ctx context.Context, tasks []*task) error {
	if !slices.ContainsFunc(tasks, func(t *task) bool { return t.needed && t.current == nil && t.record.Kind == crdKind.Kind }) {
		return nil
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(crdKind)
	if err := a.live.List(ctx, all); err != nil {
		return fmt.Errorf("looking for CRDs: %w", err)
	}
	for _, t := range tasks {
		for _, there := range all.Items {
			if there.Name == t.record.Name && newer(there.Labels, t.wanted) {
				t.left = true
			}
		}
	}
	return nil
}

// mark puts our label on a newer CRD of somebody else and changes nothing else: from then on it is in the owned cache.
func (a *Applier) mark(ctx context.Context, r Request, t *task) error {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(crdKind)
	o.SetName(t.record.Name)
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:""}}}`, v1alpha1.LabelMesh))
	return refused(o, a.owned.Client.Patch(ctx, o, patch, client.FieldOwner(r.Manager)))
}

// apply writes one object and records what it wrote.
func (a *Applier) apply(ctx context.Context, r Request, t *task) error {
	if t.left {
		return a.mark(ctx, r, t)
	}
	if t.exclusive && t.current == nil && t.record.Applied == "" {
		if err := a.free(ctx, r, t); err != nil {
			return err
		}
	}
	loaded, err := t.wanted.load()
	if err != nil {
		return err
	}
	o := loaded.DeepCopy()
	if isWebhook(o) && t.current != nil {
		if err := yieldFailurePolicy(o, t.current, r.Manager); err != nil {
			return err
		}
	}
	if err := a.patch(ctx, r.Manager, o); err != nil {
		return err
	}
	fields, err := fieldsOf(o, r.Manager)
	if err != nil {
		return err
	}
	t.record.Applied, t.record.Fields = t.wanted.digest, fields
	return nil
}

// free looks whether an object that has to be ours alone exists outside the cache.
func (a *Applier) free(ctx context.Context, r Request, t *task) error {
	there := &metav1.PartialObjectMetadata{}
	there.SetGroupVersionKind(kindOf(t.record))
	err := a.live.Get(ctx, keyOf(t.record).object(), there)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner := there.Labels[v1alpha1.LabelMesh]; owner != r.Mesh {
		return &TakenError{Kind: t.record.Kind, Name: t.record.Name, Owner: owner}
	}
	return nil
}

// previousManagers wrote Istio's objects by other means than server-side apply: what they wrote and we don't want would stay
// for ever.
var previousManagers = sets.New("helm", "Helm", "istioctl", "istio-operator")

// patch applies an object, and leaves in o what the API server made of it. Where an earlier tool wrote the object, its
// fields become ours first, so that those we don't want go.
func (a *Applier) patch(ctx context.Context, manager string, o *unstructured.Unstructured) error {
	intent := o.DeepCopy()
	err := a.owned.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager), client.ForceOwnership)
	if err != nil {
		return refused(o, err)
	}
	adopted := slices.ContainsFunc(o.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return previousManagers.Has(e.Manager) && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
	})
	if !adopted {
		return nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(o, previousManagers, manager)
	if err != nil {
		return fmt.Errorf("taking over the fields of %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	if err := a.owned.Client.Patch(ctx, o, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		return refused(o, err)
	}
	o.Object = intent.Object
	err = a.owned.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager), client.ForceOwnership)
	return refused(o, err)
}
