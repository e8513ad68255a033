package acme

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// zapLog passes what certmagic logs through zap on to the program's own log.
// What matters to an operator this package says itself, with the remedy; the
// library's lines are for who looks closer: its errors are warnings here, its
// information debug lines. It is never told a key.
type zapLog struct {
	log    *slog.Logger
	fields []zapcore.Field
}

var _ zapcore.Core = (*zapLog)(nil)

// private are fields that say who runs the enclave.
var private = map[string]bool{"account_contact": true, "contact": true, "email": true, "account": true}

// said are errors that this package says itself, with the pause that counts.
var said = map[string]bool{"will retry": true, "could not get certificate from issuer": true, "job failed": true}

func level(l zapcore.Level) slog.Level {
	if l >= zapcore.WarnLevel {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (z *zapLog) Enabled(l zapcore.Level) bool {
	return z.log.Enabled(context.Background(), level(l))
}

func (z *zapLog) With(fields []zapcore.Field) zapcore.Core {
	return &zapLog{z.log, append(append([]zapcore.Field(nil), z.fields...), fields...)}
}

func (z *zapLog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) {
		return c.AddCore(e, z)
	}
	return c
}

func (z *zapLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, list := range [][]zapcore.Field{z.fields, fields} {
		for _, f := range list {
			if !private[f.Key] {
				f.AddTo(encoder)
			}
		}
	}
	attrs := make([]any, 0, 2*len(encoder.Fields))
	for name, value := range encoder.Fields {
		attrs = append(attrs, slog.Any(name, value))
	}
	l := level(e.Level)
	if said[e.Message] {
		l = slog.LevelDebug
	}
	z.log.Log(context.Background(), l, "certificates: "+e.Message, attrs...)
	return nil
}

func (*zapLog) Sync() error { return nil }
