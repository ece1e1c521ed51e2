package bdb

// Pages are those pages of one database that a record is about.
type Pages struct {
	Index  int32 // the short number of the database: see Register
	Number [4]uint32
	Count  int // of Number
}

// pageFields says where, in words after the head of a record, a type has the database's short number and its pages. All of these fields stand
// before the first variable one. Of records that look otherwise in older logs the present form is meant.
type pageFields struct {
	index int
	pages []int
}

var (
	pageFirst  = pageFields{0, []int{1}}
	pageSecond = pageFields{1, []int{2}}
	pageFourth = pageFields{0, []int{3}}
)

// pagesByType has the records of btree.src, db.src, hash.src, heap.src and qam.src that change pages.
var pagesByType = map[uint32]pageFields{
	21:  pageSecond,              // __ham_insdel
	22:  {1, []int{2, 5, 8}},     // __ham_newpage
	24:  {0, []int{2}},           // __ham_splitdata
	25:  pageFirst,               // __ham_replace
	28:  {0, []int{1, 4, 7}},     // __ham_copypage
	29:  {0, []int{2, 5, 8}},     // __ham_metagroup
	32:  pageFourth,              // __ham_groupalloc
	37:  {0, []int{1, 5}},        // __ham_contract
	41:  pageSecond,              // __db_addrem
	43:  {1, []int{2, 3, 4}},     // __db_big
	44:  pageFirst,               // __db_ovref
	48:  pageFirst,               // __db_noop
	49:  {0, []int{3, 6}},        // __db_pg_alloc
	50:  {0, []int{1, 4}},        // __db_pg_free
	52:  {0, []int{1, 4}},        // __db_pg_freedata
	55:  pageFirst,               // __bam_adj
	56:  pageFirst,               // __bam_cadjust
	57:  pageFirst,               // __bam_cdel
	58:  pageFirst,               // __bam_repl
	59:  {0, []int{1, 2}},        // __bam_root
	60:  pageFirst,               // __db_pg_init
	62:  {0, []int{2, 5, 9, 12}}, // __bam_split
	63:  pageFirst,               // __bam_rsplit
	66:  {0, []int{1, 4}},        // __db_pg_trunc
	67:  pageFirst,               // __bam_irep
	79:  pageFourth,              // __qam_del
	80:  pageFourth,              // __qam_add
	83:  pageFourth,              // __qam_delext
	84:  {0, []int{2}},           // __qam_incfirst
	85:  {1, []int{8}},           // __qam_mvptr
	142: pageFirst,               // __crdel_metasub
	147: {0, []int{1, 2, 3, 6}},  // __db_relink
	148: {0, []int{1, 4}},        // __db_merge
	149: pageFirst,               // __db_pgno
	151: pageSecond,              // __heap_addrem
	152: {0, []int{3, 4}},        // __heap_pg_alloc
	153: pageFirst,               // __heap_trunc_meta
	154: pageFirst,               // __heap_trunc_page
}

// Pages decodes which pages a record is about, as far as it is of a type that changes any. It is good for hints only: page numbers of 0 may
// stand for none, and a record may name a page less than recovery touches.
func (r *Record) Pages() (p Pages, ok bool) {
	where, ok := pagesByType[r.Type]
	if !ok {
		return p, false
	}
	f, ok := r.fields(r.Type)
	if !ok {
		return p, false
	}
	p.Index = int32(f.word(where.index))
	for _, at := range where.pages {
		p.Number[p.Count] = f.word(at)
		p.Count++
	}
	return p, f.ok()
}

// word is the 32-bit field after n others.
func (f *fieldReader) word(n int) uint32 {
	if 4*n+4 > len(f.rest) {
		f.short = true
		return 0
	}
	return f.order.Uint32(f.rest[4*n:])
}
