/* Go can't call function pointers or build a DBT that points at Go memory, so each libdb method used has a wrapper here. */
#include <db.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A DBT that libdb grows with realloc and that its owner reads before the next call. */
typedef struct { DBT key, data; DBC *dbc; } shim_result;

static inline DBT shim_in(void *p, u_int32_t n) {
	DBT t;
	memset(&t, 0, sizeof t);
	t.data = p;
	t.size = n;
	return t;
}

static inline shim_result *shim_result_new(void) {
	shim_result *r = calloc(1, sizeof *r);
	if (r != NULL)
		r->key.flags = r->data.flags = DB_DBT_REALLOC;
	return r;
}

static inline void shim_result_free(shim_result *r) {
	free(r->key.data);
	free(r->data.data);
	free(r);
}

static inline int shim_env_open(DB_ENV *e, const char *home, u_int32_t flags) { return e->open(e, home, flags, 0640); }
static inline int shim_env_close(DB_ENV *e) { return e->close(e, 0); }
static inline int shim_env_encrypt(DB_ENV *e, const char *p) { return e->set_encrypt(e, p, DB_ENCRYPT_AES); }
static inline int shim_env_cache(DB_ENV *e, u_int64_t n) { return e->set_cachesize(e, (u_int32_t)(n >> 30), (u_int32_t)(n & ((1 << 30) - 1)), 1); }
static inline void shim_env_messages(DB_ENV *e) {
	e->set_errfile(e, stderr);
	e->set_errpfx(e, "libdb");
}
static inline int shim_env_limits(DB_ENV *e, u_int32_t locks, u_int32_t txns) {
	int ret;
	if ((ret = e->set_lk_max_locks(e, locks)) != 0 || (ret = e->set_lk_max_objects(e, locks)) != 0 ||
	    (ret = e->set_lk_max_lockers(e, locks)) != 0 || (ret = e->set_tx_max(e, txns)) != 0 ||
	    (ret = e->set_lg_regionmax(e, 1 << 20)) != 0)
		return ret;
	return e->set_lk_detect(e, DB_LOCK_DEFAULT);
}
static inline int shim_checkpoint(DB_ENV *e, u_int32_t flags) { return e->txn_checkpoint(e, 0, 0, flags); }
static inline int shim_log_flush(DB_ENV *e) { return e->log_flush(e, NULL); }
static inline int shim_log_remove(DB_ENV *e) { return e->log_archive(e, NULL, DB_ARCH_REMOVE); }
static inline int shim_log_end(DB_ENV *e, u_int32_t *file, u_int32_t *offset) {
	DB_LOG_STAT *st;
	int ret = e->log_stat(e, &st, 0);
	if (ret != 0)
		return ret;
	*file = st->st_cur_file;
	*offset = st->st_cur_offset;
	free(st);
	return 0;
}
static inline int shim_dbremove(DB_ENV *e, DB_TXN *t, const char *file, const char *sub, u_int32_t flags) {
	return e->dbremove(e, t, file, sub, flags);
}
static inline int shim_dbrename(DB_ENV *e, DB_TXN *t, const char *file, const char *sub, const char *to, u_int32_t flags) {
	return e->dbrename(e, t, file, sub, to, flags);
}

static inline int shim_begin(DB_ENV *e, DB_TXN *parent, DB_TXN **t, u_int32_t flags) { return e->txn_begin(e, parent, t, flags); }
static inline int shim_abort(DB_TXN *t) { return t->abort(t); }
static inline int shim_txn_recover(DB_ENV *e, DB_PREPLIST *list, long count, long *found) { return e->txn_recover(e, list, count, found, DB_FIRST); }
static inline int shim_prepare(DB_TXN *t, void *gid) { return t->prepare(t, gid); }
static inline int shim_commit(DB_TXN *t, u_int32_t flags, unsigned char *token) {
	DB_TXN_TOKEN tok;
	int ret;
	memset(&tok, 0, sizeof tok);
	if (token != NULL && (ret = t->set_commit_token(t, &tok)) != 0) {
		t->abort(t);
		return ret;
	}
	ret = t->commit(t, flags);
	if (token != NULL)
		memcpy(token, tok.buf, DB_TXN_TOKEN_SIZE);
	return ret;
}

static inline int shim_set_pagesize(DB *d, u_int32_t n) { return d->set_pagesize(d, n); }
static inline int shim_set_flags(DB *d, u_int32_t f) { return d->set_flags(d, f); }
static inline int shim_set_lorder(DB *d, int o) { return d->set_lorder(d, o); }
static inline int shim_set_re_len(DB *d, u_int32_t n) { return d->set_re_len(d, n); }
static inline int shim_set_extent(DB *d, u_int32_t n) { return d->set_q_extentsize(d, n); }
static inline int shim_open(DB *d, DB_TXN *t, const char *file, const char *sub, DBTYPE type, u_int32_t flags) {
	return d->open(d, t, file, sub, type, flags, 0640);
}
static inline int shim_get_re_len(DB *d, u_int32_t *n) { return d->get_re_len(d, n); }
static inline int shim_close(DB *d, u_int32_t flags) { return d->close(d, flags); }
static inline DBTYPE shim_type(DB *d) { DBTYPE t = DB_UNKNOWN; d->get_type(d, &t); return t; }
static inline int shim_multiple(DB *d) { return d->get_multiple(d); }
/* The keys are 8 bytes each, one after the other; libdb keeps the DBT array until the handle closes, so the caller keeps both alive. */
static inline int shim_partition(DB *d, u_int32_t parts, DBT *array, unsigned char *keys) {
	for (u_int32_t i = 0; i + 1 < parts; i++)
		array[i] = shim_in(keys + 8 * i, 8);
	return d->set_partition(d, parts, array, NULL);
}

static inline int shim_put(DB *d, DB_TXN *t, void *k, u_int32_t kn, void *v, u_int32_t vn, u_int32_t flags) {
	DBT key = shim_in(k, kn), data = shim_in(v, vn);
	return d->put(d, t, &key, &data, flags);
}
static inline int shim_append(DB *d, DB_TXN *t, void *v, u_int32_t vn, unsigned char *k, u_int32_t *kn) {
	DBT key = shim_in(k, 0), data = shim_in(v, vn);
	key.ulen = *kn;
	key.flags = DB_DBT_USERMEM;
	int ret = d->put(d, t, &key, &data, DB_APPEND);
	*kn = key.size;
	return ret;
}
static inline int shim_get(DB *d, DB_TXN *t, void *k, u_int32_t kn, shim_result *r, u_int32_t flags) {
	DBT key = shim_in(k, kn);
	return d->get(d, t, &key, &r->data, flags);
}
static inline int shim_consume(DB *d, DB_TXN *t, shim_result *r) { return d->get(d, t, &r->key, &r->data, DB_CONSUME); }
static inline int shim_del(DB *d, DB_TXN *t, void *k, u_int32_t kn) {
	DBT key = shim_in(k, kn);
	return d->del(d, t, &key, 0);
}
static inline int shim_truncate(DB *d, DB_TXN *t) {
	u_int32_t n;
	return d->truncate(d, t, &n, 0);
}
static inline int shim_compact(DB *d, DB_TXN *t) { return d->compact(d, t, NULL, NULL, NULL, DB_FREE_SPACE, NULL); }

static inline int shim_cursor(DB *d, DB_TXN *t, shim_result *r, u_int32_t flags) { return d->cursor(d, t, &r->dbc, flags); }
static inline int shim_cursor_get(shim_result *r, u_int32_t flags) { return r->dbc->get(r->dbc, &r->key, &r->data, flags); }
static inline int shim_cursor_close(shim_result *r) { return r->dbc->close(r->dbc); }
static inline int shim_verify(DB *d, const char *file) { return d->verify(d, file, NULL, NULL, 0); }

static inline int shim_log_cursor(DB_ENV *e, DB_LOGC **c) { return e->log_cursor(e, c, 0); }
static inline int shim_log_next(DB_LOGC *c, DB_LSN *lsn, DBT *data) { return c->get(c, lsn, data, DB_NEXT); }
static inline int shim_log_cursor_close(DB_LOGC *c) { return c->close(c, 0); }

static inline int shim_log_bytes(DB_ENV *e, u_int64_t *n) {
	DB_LOG_STAT *st;
	int ret = e->log_stat(e, &st, 0);
	if (ret != 0)
		return ret;
	*n = (u_int64_t)(st->st_cur_file - 1) * st->st_lg_size + st->st_cur_offset;
	free(st);
	return 0;
}

static inline int shim_btree_size(DB *d, u_int32_t *leaves, u_int32_t *records) {
	DB_BTREE_STAT *st;
	int ret = d->stat(d, NULL, &st, 0);
	if (ret != 0)
		return ret;
	*leaves = st->bt_leaf_pg;
	*records = st->bt_nkeys;
	free(st);
	return 0;
}
