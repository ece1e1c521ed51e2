/* What the tests of engines need of libdb and localenv/envtest has not: a look at the hot-backup flag from a process of its own, and databases
 * that only their application can order. */
#include <db.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int ret, const char *what) {
	if (ret == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, db_strerror(ret));
	exit(1);
}

static DB_ENV *environment(const char *home, u_int32_t flags) {
	DB_ENV *env;
	check(db_env_create(&env, 0), "db_env_create");
	env->set_errfile(env, stderr);
	check(env->open(env, home, flags, 0), home);
	return env;
}

static void hot(const char *home) {
	DB_ENV *env = environment(home, 0);
	u_int32_t flags;
	check(env->get_flags(env, &flags), "get_flags");
	printf("%d\n", (flags & DB_HOTBACKUP_IN_PROGRESS) != 0);
	check(env->close(env, 0), "close");
}

static int backwards(DB *db, const DBT *a, const DBT *b) {
	int c = memcmp(b->data, a->data, a->size < b->size ? a->size : b->size);
	return c != 0 ? c : (int)b->size - (int)a->size;
}

static u_int32_t own_hash(DB *db, const void *key, u_int32_t size) {
	const unsigned char *p = key;
	u_int32_t h = 7;
	while (size-- > 0)
		h = h * 31 + *p++;
	return h;
}

static u_int32_t by_last_digit(DB *db, DBT *key) { return ((unsigned char *)key->data)[7] % 3; }

static void fill(DB *db) {
	char key[9], value[101];
	DBT k, v;
	int i;
	memset(value, 'v', sizeof value);
	for (i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "%08d", i);
		memset(&k, 0, sizeof k);
		memset(&v, 0, sizeof v);
		k.data = key;
		k.size = 8;
		v.data = value;
		v.size = 100;
		check(db->put(db, NULL, &k, &v, 0), "put");
	}
}

static void custom(const char *home) {
	static const char *names[] = {"backwards.db", "hash.db", "dups.db", "callback.db"};
	DB_ENV *env = environment(home, DB_CREATE | DB_INIT_MPOOL | DB_PRIVATE);
	int i;
	for (i = 0; i < 4; i++) {
		DB *db;
		check(db_create(&db, env, 0), "db_create");
		switch (i) {
		case 0: check(db->set_bt_compare(db, backwards), "set_bt_compare"); break;
		case 1: check(db->set_h_hash(db, own_hash), "set_h_hash"); break;
		case 2: check(db->set_flags(db, DB_DUPSORT), "set_flags"); check(db->set_dup_compare(db, backwards), "set_dup_compare"); break;
		case 3: check(db->set_partition(db, 3, NULL, by_last_digit), "set_partition"); break;
		}
		check(db->open(db, NULL, names[i], NULL, i == 1 ? DB_HASH : DB_BTREE, DB_CREATE, 0640), names[i]);
		fill(db);
		if (i == 2) {
			DBT k, v;
			char value[3];
			int n;
			for (n = 10; n < 50; n++) {
				snprintf(value, sizeof value, "%d", n);
				memset(&k, 0, sizeof k);
				memset(&v, 0, sizeof v);
				k.data = "00000500";
				k.size = 8;
				v.data = value;
				v.size = 2;
				check(db->put(db, NULL, &k, &v, 0), "put duplicate");
			}
		}
		check(db->close(db, 0), "close database");
	}
	check(env->close(env, 0), "close");
}

int main(int argc, char **argv) {
	if (argc == 3 && strcmp(argv[1], "hot") == 0)
		hot(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "custom") == 0)
		custom(argv[2]);
	else
		return 2;
	return 0;
}
