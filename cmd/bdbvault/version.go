package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"bdbvault/localenv/engine"
)

// version is what the next release is called.
const version = "0.1.0"

// tool is how bdbvault signs what it stores.
const tool = "bdbvault " + version

type versionReport struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Engine   string `json:"engine,omitempty"`
	NoEngine string `json:"noEngine,omitempty"` // why there is none
}

func (r *versionReport) text(w io.Writer) {
	t := newTable(w)
	t.row("bdbvault", r.Version)
	if r.Revision != "" {
		t.row("revision", r.Revision)
	}
	if r.NoEngine != "" {
		t.row("engine", "none: "+r.NoEngine)
	} else {
		t.row("engine", r.Engine)
	}
	t.row("go", r.Go+" "+r.Platform)
	t.flush()
}

// showVersion is the command version. The engine is asked itself, since its library may have been replaced since the build.
func showVersion(ctx context.Context, c *call) (result, error) {
	r := &versionReport{Version: version, Revision: revision(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	o, err := c.engineOptions("")
	if err != nil {
		return nil, err
	}
	client, err := engine.Start(ctx, o)
	if err != nil {
		r.NoEngine = err.Error()
		return r, ctx.Err()
	}
	r.Engine = client.Version()
	return r, client.Close()
}

// revision is the commit that was built, if the build knew it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var rev, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ", modified"
		}
	}
	return fmt.Sprintf("%.12s%s", rev, dirty)
}
