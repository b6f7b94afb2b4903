package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The records that go in and come out; dataset.py describes them.
const (
	perCodec     = 200
	total        = perCodec * 5
	partitions   = 4
	perPartition = total / partitions
	baseMillis   = 1_700_000_000_000
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func timestamp(i int) time.Time {
	return time.UnixMilli(baseMillis + int64(i)*1000)
}

func record(topic string, i int) *kgo.Record {
	made := &kgo.Record{
		Topic:     topic,
		Partition: int32(i % partitions),
		Offset:    int64(i / partitions),
		Key:       []byte(fmt.Sprintf("key-%d", i)),
		Value:     []byte(fmt.Sprintf("%s-%d-%s", codecs[i/perCodec], i, strings.Repeat("x", i%300))),
		Timestamp: timestamp(i),
		Headers: []kgo.RecordHeader{
			{Key: "trace", Value: []byte("first")},
			{Key: "n", Value: []byte(fmt.Sprint(i))},
			{Key: "trace", Value: []byte("second")},
			{Key: "empty", Value: []byte{}},
			{Key: "null", Value: nil},
		},
	}
	switch i % 10 {
	case 3:
		made.Value = nil
	case 5:
		made.Key = nil
	case 6:
		made.Key = []byte{}
	}
	return made
}

// seen holds the records that consumers got, each compared as it comes.
type seen struct {
	mu    sync.Mutex
	times map[int]int
}

func newSeen() *seen {
	return &seen{times: map[int]int{}}
}

func (s *seen) add(got *kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := int(got.Offset)*partitions + int(got.Partition)
	if i >= total {
		fail("consume", fmt.Sprintf("a record too many: %d", i))
	}
	want := record(got.Topic, i)
	same := equalBytes(want.Key, got.Key) && equalBytes(want.Value, got.Value) &&
		want.Timestamp.Equal(got.Timestamp) && len(want.Headers) == len(got.Headers)
	for at := range want.Headers {
		same = same && want.Headers[at].Key == got.Headers[at].Key &&
			equalBytes(want.Headers[at].Value, got.Headers[at].Value)
	}
	if !same {
		fail("consume", fmt.Sprintf("record %d: expected %v, got %v", i, want, got))
	}
	s.times[i]++
}

func (s *seen) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times) == total
}

func (s *seen) first(partition int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := -1
	for i := range s.times {
		if i%partitions == partition && (first == -1 || i < first) {
			first = i
		}
	}
	return first
}

func equalBytes(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}
