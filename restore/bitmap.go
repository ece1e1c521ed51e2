package restore

// bitmap is a set of block numbers. A nil bitmap holds all.
type bitmap []uint64

func newBitmap(n int64) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) has(i int64) bool { return b == nil || b[i>>6]&(1<<(i&63)) != 0 }

func (b bitmap) add(i int64) { b[i>>6] |= 1 << (i & 63) }

// any reports whether one of the n blocks from first on is in the set.
func (b bitmap) any(first, n int64) bool {
	for i := first; i < first+n; i++ {
		if b.has(i) {
			return true
		}
	}
	return false
}
