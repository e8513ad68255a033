package redis_test

import (
	"strings"
	"testing"

	"github.com/vasp-enclave/vasp-enclave/storage/redis"
)

func TestURLs(t *testing.T) {
	for _, url := range []string{
		"redis://localhost", "redis://localhost:6380/2", "redis://[::1]:6379", "redis://user:pw@redis.example", "redis://:pw@10.0.0.1?db=1",
		"rediss://redis.example?server_name=other.example", "unix:///run/redis.sock?db=2", "unix://user:pw@/run/redis.sock",
		"redis+cluster://a.example:7000?addr=b.example:7000&addr=c.example", "rediss+cluster://a.example?server_name=r.example",
		"redis+sentinel://a.example?master_name=m&addr=b.example:26379&db=1", "rediss+sentinel://u:p@a.example/1?master_name=m&sentinel_username=s&sentinel_password=t",
	} {
		if err := redis.Validate(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	const secret = "hunter2"
	for _, url := range []string{
		"", secret, "localhost:6379", "http://hunter2@localhost", "redis:hunter2", "redis://", "redis:///1", "redis://hunter2@", "redis://:hunter2@:6379",
		"redis://u:hunter2#@localhost", "redis://u:hunter2?@localhost", "redis://u:hunter2/@localhost", "redis://u:hunter2%@localhost", "redis://u:a:hunter2@host:port",
		"redis://localhost/hunter2", "redis://localhost/1/2", "redis://localhost/-1", "redis://localhost/1?db=1", "redis://localhost?db=hunter2", "redis://localhost?db=1&db=2",
		"redis://localhost?hunter2=1", "redis://localhost?skip_verify=true", "redis://localhost?read_timeout=1h", "redis://localhost?addr=other:1", "redis://localhost?server_name=x", "redis://localhost?db=",
		"redis://localhost:0", "redis://localhost:65536", "redis://localhost:hunter2", "redis://a:1,b:2", "redis://a,b",
		"unix://host/run/redis.sock", "unix://", "unix:///", "redis+cluster://a/1", "redis+cluster://a?addr=", "redis+cluster://a?addr=hunter2@b:1", "redis+cluster://a?addr=b:hunter2", "redis+cluster://a?master_name=m",
		"redis+sentinel://a", "redis+sentinel://a?master_name=", "redis+sentinel://u:hunter2@a?addr=b", "redis+sentinel://a?master_name=m&master_name=n", "redis://localhost?%zz",
	} {
		err := redis.Validate(url)
		if err == nil {
			t.Errorf("%s: accepted", url)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats it: %v", url, err)
		}
	}
}

func FuzzURL(f *testing.F) {
	f.Add("redis://u:hunter2@localhost:6379/1")
	f.Add("redis+sentinel://a?master_name=m&addr=[::1]:hunter2")
	f.Add("redis+cluster://hunter2:1?addr=::1")
	f.Fuzz(func(t *testing.T, url string) {
		const secret = "hunter2"
		if err := redis.Validate(url); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", url, err)
		}
	})
}
