package envtest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Spec is the shape of an environment. Its zero value is a home without DB_CONFIG lines of interest and without databases.
type Spec struct {
	Seed        uint64   // of all content; the same seed makes the same records
	DataDirs    []string // set_data_dir lines, made if they don't exist
	AddDirs     []string // add_data_dir lines, likewise
	CreateDir   string   // set_create_dir; one of the above
	LogDir      string   // set_lg_dir
	LogFileSize int      // set_lg_max, bytes; 0 is the engine's 10 MiB
	Cache       int64    // set_cachesize, bytes; 0 is 8 MiB
	Flags       []string // set_flags lines, such as DB_TXN_NOSYNC
	LogFlags    []string // log_set_config lines, such as DB_LOG_AUTO_REMOVE
	Config      []string // other DB_CONFIG lines, as they stand
	NoConfig    bool     // no DB_CONFIG file; then nothing above this line is possible but Seed
	Password    string   // encrypts the environment and every database that is not Plain
	TrimLog     bool     // remove log files that are not needed any more while loading, as a site does that archives them
	Ratio       float64  // how far zstd -1 shrinks the records' values; 0 is 3
	Databases   []Database
	Bank        *Bank // nil: no bank
}

// Database is one database and what to fill it with.
type Database struct {
	File       string // as DB->open takes it; may name a folder: "sub/a.db"
	Name       string // a database inside File, or "" if the file is the database
	Method     string // "btree", "hash", "recno", "queue" or "heap"
	PageSize   int    // bytes, 512 to 65536; 0 is 4096
	BigEndian  bool
	Checksum   bool
	Plain      bool // not encrypted, though the environment is
	Dup        bool // unsorted duplicates
	DupSort    bool // sorted duplicates
	Renumber   bool // recno that closes gaps
	NoLog      bool // DB_TXN_NOT_DURABLE
	RecordLen  int  // queue; 0 is what fits ValueSize and the page
	Extent     int  // queue: pages in an extent file; 0 is one file
	Partitions int  // btree or hash, by key ranges
	Records    int
	Bytes      int64 // instead of Records: about this much, in values
	ValueSize  int   // mean length of a value; 0 is 100
	Overflow   bool  // every tenth value is larger than a page
	Consume    int   // queue: so many records are taken out again from the head
	Bulk       bool  // load in DB_TXN_BULK transactions, whose content is not in the log
}

func (d Database) String() string {
	if d.Name == "" {
		return d.File
	}
	return d.File + ":" + d.Name
}

// Page is the page size with its default.
func (d Database) Page() int {
	if d.PageSize == 0 {
		return 4096
	}
	return d.PageSize
}

// ConfigText is the DB_CONFIG that the environment gets.
func (s Spec) ConfigText() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	cache := s.Cache
	if cache == 0 {
		cache = 8 << 20
	}
	line("set_cachesize %d %d 1", cache>>30, cache&(1<<30-1))
	for _, d := range s.DataDirs {
		line("set_data_dir %s", d)
	}
	for _, d := range s.AddDirs {
		line("add_data_dir %s", d)
	}
	if s.CreateDir != "" {
		line("set_create_dir %s", s.CreateDir)
	}
	if s.LogDir != "" {
		line("set_lg_dir %s", s.LogDir)
	}
	if s.LogFileSize != 0 {
		line("set_lg_bsize %d", min(32000, s.LogFileSize/4)) // the engine wants room for four buffers in a file
		line("set_lg_max %d", s.LogFileSize)
	}
	for _, f := range s.Flags {
		line("set_flags %s", f)
	}
	for _, f := range s.LogFlags {
		line("log_set_config %s", f)
	}
	for _, c := range s.Config {
		line("%s", c)
	}
	return b.String()
}

// folders are the directories that must exist before the environment can be opened.
func (s Spec) folders(home string) []string {
	dirs := append(append([]string{home}, s.DataDirs...), s.AddDirs...)
	if s.LogDir != "" {
		dirs = append(dirs, s.LogDir)
	}
	for i, d := range dirs {
		if !filepath.IsAbs(d) {
			dirs[i] = filepath.Join(home, d)
		}
	}
	create := home
	if s.CreateDir != "" {
		create = below(home, s.CreateDir)
	} else if len(s.DataDirs) > 0 {
		create = below(home, s.DataDirs[0])
	}
	for _, d := range s.Databases {
		dirs = append(dirs, filepath.Dir(filepath.Join(create, d.File)))
	}
	return dirs
}

func below(home, dir string) string {
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(home, dir)
}

// SizedSpec is the environment of the benchmarks: about so many bytes of data in two btree databases, of 8 and 16 KiB pages, in a data
// directory, and a bank for live load.
func SizedSpec(size int64) Spec {
	const value, overhead = 400, 1.13 // what pages, keys and their headers add
	half := int64(float64(size) / overhead / 2)
	return Spec{
		DataDirs: []string{"data"}, Cache: 64 << 20, TrimLog: true,
		Databases: []Database{
			{File: "orders.db", Method: "btree", PageSize: 8192, Bytes: half, ValueSize: value, Bulk: true},
			{File: "items.db", Method: "btree", PageSize: 16384, Bytes: half, ValueSize: value, Bulk: true},
		},
		Bank: &Bank{Accounts: 1000, PageSize: 8192},
	}
}

// AllShapes is one database of every kind that the engine can make at this page size, with a few hundred records each.
func AllShapes(pageSize int, checksum bool) []Database {
	shapes := []Database{
		{File: "btree.db", Method: "btree", Overflow: true},
		{File: "hash.db", Method: "hash", Overflow: true},
		{File: "recno.db", Method: "recno", Renumber: true, Overflow: true},
		{File: "queue.db", Method: "queue"},
		{File: "extents.db", Method: "queue", Extent: 4, Consume: 100},
		{File: "heap.db", Method: "heap"},
		{File: "dup.db", Method: "btree", Dup: true},
		{File: "dupsort.db", Method: "btree", DupSort: true},
		{File: "hashdup.db", Method: "hash", DupSort: true},
		{File: "big.db", Method: "btree", BigEndian: true},
		{File: "partition.db", Method: "btree", Partitions: 3},
		{File: "sub/deep.db", Method: "btree"},
		{File: "many.db", Name: "first", Method: "btree"},
		{File: "many.db", Name: "second", Method: "hash"},
		{File: "many.db", Name: "third", Method: "recno"},
	}
	for i := range shapes {
		shapes[i].PageSize, shapes[i].Checksum, shapes[i].Records = pageSize, checksum, 300
	}
	return shapes
}
