// Package bdb reads Berkeley DB's formats on disk: pages of database files here, log records beside them. It is pure: bytes in, facts
// out, no disk, no network. All numbers were read in libdb 5.3.28 and tried on files that it wrote; formats of releases 3.0 to 18.1
// differ only in what this package does not look at.
//
// # Database files
//
// A database file is a row of pages of one size, a power of two from 512 to 65536. Numbers are in the byte order of the host that
// made the file, which the magic number tells. The first page is the metadata page, of which the first 512 bytes matter:
//
//	  0 lsn.file     4 lsn.offset   8 page number  12 magic
//	 16 version     20 page size   24 encryption  25 page type  26 flags (1: checksums)  27 -
//	 28 free list   32 last page   36 partitions  40 keys       44 records   48 access method's flags
//	 52 file id, 20 bytes          72 access method's own fields
//	460 magic again, encrypted    464 -
//	476 IV, 16 bytes              492 checksum, 4 bytes, or HMAC, 20 bytes
//
// db_page.h's own comments put the IV's end and the checksum four bytes further on; the compiler, and so every file, does not.
//
// All other pages begin alike, whatever the access method:
//
//	 0 lsn.file     4 lsn.offset   8 page number  12 access method's own
//	25 page type   26 -           28 checksum, 4 bytes, or HMAC, 20 bytes   48 IV, 16 bytes
//
// Without checksums and encryption the fields from 26 on are not there. A subdatabase has its own metadata page somewhere in the middle.
//
// Checksums: [Checksum] over the page (metadata pages: over the first 512 bytes) with zeros in the field itself, stored in the file's
// byte order. Encryption implies checksums, which are then HMACs over the encrypted bytes with zeros in the field. What is encrypted is
// everything from byte 64 on (metadata pages: 64 to 511, then the IV and the HMAC are laid over the end); so LSNs, page numbers, types and
// the first twelve bytes of the file id can always be read.
//
// # Which pages are legal
//
// A page of zeros is one that was never written: file systems make them as holes, and so do hash tables, which grow by groups of
// pages, and queues with gaps. A hash page may also be initialised but carry page number 0. The LSN {0,1} marks a page that was written
// without logging.
//
// # Queue extents
//
// A queue with extents keeps its records in files of their own, __dbq.NAME.N beside NAME, which have no metadata page: byte order, page size,
// checksums and encryption are those of NAME. Their page numbers go on through all extents: file N begins with page N*extent + 1.
package bdb
