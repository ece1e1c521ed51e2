package status

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// screens are what the page is looked at on.
var screens = []struct {
	name          string
	width, height int64
	scheme        string
}{
	{"phone", 360, 740, "light"},
	{"phone", 360, 740, "dark"},
	{"desktop", 1180, 900, "light"},
	{"desktop", 1180, 900, "dark"},
}

// findings is what the script in the browser found wrong with the page, and what it shows.
type findings struct {
	Overflow []string `json:"overflow"` // wider than the screen
	Contrast []string `json:"contrast"` // too little between text and what is behind it
	Overlap  []string `json:"overlap"`  // words in a picture that cover one another or are cut off
	Unnamed  int      `json:"unnamed"`  // pictures that say nothing to those who can't see them
	Marks    int      `json:"marks"`    // full backups that can be seen whole
	Text     string   `json:"text"`
	Scripts  int      `json:"scripts"`
}

// TestPageInBrowser draws every condition in a real browser, on a phone and a desk, by day and by night: nothing is wider than the screen, every text
// can be read, no word in a picture covers another, nothing is complained of in the console, and no other host is asked for anything.
// BDBVAULT_SCREENSHOTS names a directory to put pictures into.
func TestPageInBrowser(t *testing.T) {
	srv := httptest.NewServer(Handler(everySample))
	defer srv.Close()
	b := startBrowser(t)
	for _, s := range screens {
		t.Run(s.name+"/"+s.scheme, func(t *testing.T) {
			f := b.look(t, srv.URL+"/?refresh=off", s.width, s.height, s.scheme, s.name+"-"+s.scheme)
			for what, list := range map[string][]string{"wider than the screen": f.Overflow, "hard to read": f.Contrast, "words on words": f.Overlap} {
				if len(list) > 0 {
					t.Errorf("%s:\n%s", what, strings.Join(list, "\n"))
				}
			}
			for _, text := range []string{"4 of 5 environments need attention", "bank", "protected", "retrying", "first full backup", "failed", "lagging",
				"connection timed out", "Every commit is in the store", "not yet in the store", "now", "Log shipped", "It is tried again in 40 s"} {
				if !strings.Contains(f.Text, text) {
					t.Errorf("the page does not say %q", text)
				}
			}
			if f.Unnamed > 0 || f.Scripts > 0 {
				t.Errorf("%d pictures without a name, %d scripts", f.Unnamed, f.Scripts)
			}
			if f.Marks < 36 {
				t.Errorf("only %d full backups can be seen whole", f.Marks)
			}
		})
	}
}

// TestHostileNames: what comes from outside never becomes markup.
func TestHostileNames(t *testing.T) {
	srv := httptest.NewServer(Handler(hostileSample))
	defer srv.Close()
	f := startBrowser(t).look(t, srv.URL+"/", 800, 600, "light", "")
	if f.Scripts > 0 || !strings.Contains(f.Text, "<script>alert(1)</script>") {
		t.Errorf("%d scripts; the page says: %s", f.Scripts, f.Text)
	}
}

type browser struct{ ctx context.Context }

func startBrowser(t *testing.T) *browser {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(time.Minute), chromedp.UserDataDir(profile(t)))
	alloc, end := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(alloc)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start a browser (Debian's package chromium): %v", err)
	}
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // waits for it to end
		cancel()
	})
	return &browser{ctx: ctx}
}

// look opens the page in a tab of its own.
func (b *browser) look(t *testing.T, address string, width, height int64, scheme, shot string) (f findings) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	heard := listen(ctx)
	err := chromedp.Run(ctx,
		log.Enable(), network.Enable(), runtime.Enable(),
		emulation.SetDeviceMetricsOverride(width, height, 1, width < 500),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.Navigate(address),
		chromedp.Evaluate(inspection, &f),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range heard.list(address) {
		t.Error(complaint)
	}
	if dir := os.Getenv("BDBVAULT_SCREENSHOTS"); dir != "" && shot != "" {
		var png []byte
		if err := chromedp.Run(ctx, chromedp.FullScreenshot(&png, 100)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, shot+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// hearing collects what a tab complains of and whom it asks.
type hearing struct {
	mu        sync.Mutex
	complains []string
	asked     []string
}

func listen(ctx context.Context) *hearing {
	h := &hearing{}
	chromedp.ListenTarget(ctx, func(ev any) {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			h.complains = append(h.complains, fmt.Sprintf("%s: %s %s", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
		case *runtime.EventConsoleAPICalled:
			h.complains = append(h.complains, fmt.Sprintf("console.%s", ev.Type))
		case *runtime.EventExceptionThrown:
			h.complains = append(h.complains, ev.ExceptionDetails.Error())
		case *network.EventRequestWillBeSent:
			h.asked = append(h.asked, ev.Request.URL)
		}
	})
	return h
}

func (h *hearing) list(address string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.complains
	own, _ := url.Parse(address)
	for _, a := range h.asked {
		if u, err := url.Parse(a); err != nil || u.Scheme != "data" && u.Host != own.Host {
			list = append(list, "another host is asked: "+a)
		}
	}
	if len(h.asked) == 0 {
		list = append(list, "not even the page was asked for: nothing is being heard")
	}
	return list
}

// inspection runs in the page. Contrast is WCAG's, of every text against the nearest background that is not transparent.
const inspection = `(() => {
	const out = {overflow: [], contrast: [], overlap: [], unnamed: 0, marks: 0, text: document.body.innerText + ' ' +
		[...document.querySelectorAll('svg text')].map(t => t.textContent).join(' '), scripts: document.scripts.length};
	const rgb = c => c.match(/[\d.]+/g).map(Number);
	const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
	const light = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
	const behind = el => {
		for (; el; el = el.parentElement) {
			const c = rgb(getComputedStyle(el).backgroundColor);
			if (c.length < 4 || c[3] > 0) return c;
		}
		return [255, 255, 255];
	};
	const shown = el => el.getClientRects().length > 0;
	for (const el of document.querySelectorAll('body *')) {
		const own = [...el.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
		const svgText = el.tagName === 'text';
		if (!own || !shown(el) || (el.namespaceURI.endsWith('svg') && !svgText)) continue;
		const style = getComputedStyle(el);
		const a = light(rgb(svgText ? style.fill : style.color)), b = light(behind(el.parentElement && svgText ? el.parentElement : el));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) out.contrast.push(ratio.toFixed(2) + ': ' + el.textContent.trim().slice(0, 60));
		const r = el.getBoundingClientRect();
		if (r.right > innerWidth + 0.5 || r.left < -0.5) out.overflow.push(el.tagName + ': ' + el.textContent.trim().slice(0, 60));
	}
	if (document.documentElement.scrollWidth > innerWidth) out.overflow.push('the page: ' + document.documentElement.scrollWidth);
	for (const svg of document.querySelectorAll('svg.chart')) {
		const frame = svg.getBoundingClientRect();
		const whole = r => r.left >= frame.left - 1 && r.right <= frame.right + 1 && r.top >= frame.top - 1 && r.bottom <= frame.bottom + 1;
		if (svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label')) out.unnamed++;
		const boxes = [...svg.querySelectorAll('text')].filter(shown).map(t => [t.getBoundingClientRect(), t.textContent]);
		boxes.forEach(([r, text], i) => {
			if (!whole(r)) out.overlap.push('cut off: ' + text);
			for (const [q, other] of boxes.slice(i + 1))
				if (r.left < q.right + 2 && q.left < r.right + 2) out.overlap.push(text + ' / ' + other);
		});
		for (const m of svg.querySelectorAll('path.full')) {
			const r = m.getBoundingClientRect();
			if (r.width > 6 && whole(r)) out.marks++;
		}
	}
	return out;
})()`

// profile is a directory for the browser. Its processes end one after the other, and the last ones still write when the first is gone, so
// that removing it takes some tries.
func profile(t *testing.T) string {
	dir, err := os.MkdirTemp("", "bdbvault-browser-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(30 * time.Second); ; {
			if err := os.RemoveAll(dir); err == nil {
				return
			} else if time.Now().After(deadline) {
				t.Error(err)
				return
			}
		}
	})
	return dir
}
