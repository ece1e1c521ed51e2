package manifest

import "fmt"

func sscan(s string, n *SegmentName) (int, error) {
	return fmt.Sscanf(s, "%d:%d-%d", &n.File, &n.Start, &n.End)
}

func short(s SegmentName) string {
	mark := ""
	if s.Sealed {
		mark = "!"
	}
	return fmt.Sprintf("%d:%d-%d%s", s.File, s.Start, s.End, mark)
}
