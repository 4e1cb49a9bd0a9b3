package sim

import (
	"testing"
	"fmt"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func TestZ1(t *testing.T) {
	clean := shop(soon)
	clean.Run(600)
	for n := 0; n <= clean.turn; n++ {
		c := shop(soon)
		c.At(n, Goal(v1alpha1.GoalRollBack))
		c.healing()
		ended := c.Run(1500)
		if !ended || len(c.Problems())+len(c.remains()) > 0 {
			fmt.Println("rollback at", n, ended, c.progress.Outcome, c.Problems(), c.remains())
			fmt.Println(c.Trace())
		}
	}
	for n := 0; n <= clean.turn; n++ {
		c := shop(soon)
		c.At(n, func(c *Cluster) { c.To.StartSeconds = -1 })
		c.healing()
		ended := c.Run(1500)
		if !ended || len(c.Problems())+len(c.remains()) > 0 {
			fmt.Println("to down at", n, ended, c.progress.Outcome, c.Problems(), c.remains())
			fmt.Println(c.Trace())
		}
	}
}

func TestZ2(t *testing.T) {
	c := shop(nil)
	c.workload("Deployment/test/b").Crashes = []string{to.Revision}
	c.At(16, Goal(v1alpha1.GoalAbort))
	c.Run(600)
	fmt.Println(c.Trace())
}

func TestZ3(t *testing.T) {
	c := shop(nil)
	c.Uses = []string{"1 proxy of a virtual machine"}
	for n := 100; n < 3000; n += 100 {
		c.At(n, func(c *Cluster) { c.To.StartSeconds = -1 })
		c.At(n+10, func(c *Cluster) { c.To.StartSeconds = 8 })
	}
	c.Run(1800)
	fmt.Println(c.Trace())
}

func TestZ4(t *testing.T) {
	c := shop(steps(move("early", "early", 100), pause("go", 0)))
	c.At(40, func(c *Cluster) { c.Spec.Paused = true })
	c.At(50, Goal(v1alpha1.GoalRollBack))
	c.At(52, func(c *Cluster) { c.workload("Deployment/test/b").Restart() })
	c.Run(80)
	fmt.Println(c.Trace())
	for _, w := range c.Workloads {
		for _, p := range w.pods {
			fmt.Println(p.name, p.revision)
		}
	}
}

func TestZ5(t *testing.T) {
	c := shop(nil)
	c.At(12, func(c *Cluster) { c.Blind = true })
	c.At(200, func(c *Cluster) { c.Blind = false })
	c.Run(600)
	fmt.Println(c.Trace())
}

func TestZ6(t *testing.T) {
	c := shop(onFailure(v1alpha1.OnFailureRollBack))
	c.Namespaces = append(c.Namespaces, &Namespace{Name: "tagged", Follows: true})
	pay := c.workload("Deployment/test/a")
	pay.Held = "Excluded"
	c.At(11, func(*Cluster) { pay.Restart() })
	c.At(30, Goal(v1alpha1.GoalRollBack))
	c.At(120, func(c *Cluster) { c.From.StartSeconds = -1; pay.Held = "" })
	c.Run(300)
	fmt.Println(c.Trace())
}
