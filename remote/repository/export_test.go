package repository

// Lists makes answers of the store, as far as they are read at once, this long, and allows so many of them for looking back.
func Lists(page, back int) (restore func()) {
	p, b := listPage, lookBackLists
	listPage, lookBackLists = page, back
	return func() { listPage, lookBackLists = p, b }
}

// ManyPacks makes so many packs very many.
func ManyPacks(n int) (restore func()) {
	old := manyPacks
	manyPacks = n
	return func() { manyPacks = old }
}
