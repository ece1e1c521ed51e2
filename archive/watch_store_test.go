package archive_test

import (
	"time"

	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
)

// useMinIO moves b to a bucket of a MinIO behind a proxy.
func (b *bench) useMinIO() *remotetest.Proxy {
	b.t.Helper()
	server := remotetest.MinIO(b.t)
	proxy := remotetest.NewProxy(b.t, server)
	cfg := server.Config(server.NewBucket())
	cfg.Endpoint = proxy.Endpoint
	drv, err := minio.New(b.t.Context(), cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.rec = remotetest.Record(drv)
	if b.repo, err = repository.Init(b.t.Context(), remote.New(b.rec, remote.Options{RetryFor: time.Minute}), "test"); err != nil {
		b.t.Fatal(err)
	}
	return proxy
}
