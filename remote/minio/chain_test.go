package minio

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Temporary credentials are fetched anew before they end, others once.
func TestChainRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched, lasting := 0, true
		provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			if fetched++; fetched == 4 {
				return aws.Credentials{}, errors.New("gone")
			}
			return aws.Credentials{
				AccessKeyID: fmt.Sprint(fetched), SecretAccessKey: "s", SessionToken: "t", CanExpire: !lasting, Expires: time.Now().Add(time.Hour),
			}, nil
		})
		c := credentials.New(&chain{ctx: t.Context(), provider: provider})
		want := func(key string) {
			t.Helper()
			if v, err := c.Get(); v.AccessKeyID != key {
				t.Errorf("got %q, %v instead of %q", v.AccessKeyID, err, key)
			}
		}
		want("1")
		time.Sleep(2 * time.Hour)
		want("1")
		lasting = false
		c.Expire()
		want("2")
		time.Sleep(58 * time.Minute)
		want("2")
		time.Sleep(90 * time.Second)
		want("3")
		time.Sleep(time.Hour)
		if _, err := c.Get(); err == nil {
			t.Error("used credentials that have ended")
		}
		want("5")
	})
}
