// franz-go: the whole life of a topic and a group.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 60 * time.Second

func ok(step string) {
	fmt.Printf("  ok    %s\n", step)
}

func fail(step, detail string) {
	fmt.Fprintf(os.Stderr, "  FAIL  %s: %s\n", step, detail)
	os.Exit(1)
}

func must(step string, err error) {
	if err != nil {
		fail(step, err.Error())
	}
}

func equal(step string, expected, got any) {
	if fmt.Sprint(expected) != fmt.Sprint(got) {
		fail(step, fmt.Sprintf("expected %v, got %v", expected, got))
	}
	ok(step)
}

func until(step string, holds func() bool) {
	end := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(end) {
			fail(step, "not within its time")
		}
		time.Sleep(20 * time.Millisecond)
	}
	ok(step)
}

type run struct {
	ctx     context.Context
	address string
	topic   string
	group   string
	admin   *kadm.Client
}

func (r *run) client(options ...kgo.Opt) *kgo.Client {
	options = append(options, kgo.SeedBrokers(r.address), kgo.ClientID("compat"))
	client, err := kgo.NewClient(options...)
	must("client", err)
	return client
}

func (r *run) create() {
	never := "-1"
	config := map[string]*string{"retention.ms": &never}
	_, err := r.admin.CreateTopic(r.ctx, partitions, 1, config, r.topic)
	must("create", err)
	ok("create")
	_, err = r.admin.CreateTopic(r.ctx, partitions, 1, config, r.topic)
	equal("create twice: refused", true, errors.Is(err, kerr.TopicAlreadyExists))
}

func (r *run) produce() {
	compressions := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(),
		kgo.ZstdCompression(),
	}
	for at, codec := range codecs {
		client := r.client(
			kgo.ProducerBatchCompression(compressions[at]),
			kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerLinger(20*time.Millisecond),
		)
		var records []*kgo.Record
		for i := at * perCodec; i < (at+1)*perCodec; i++ {
			records = append(records, record(r.topic, i))
		}
		var mu sync.Mutex
		wrong := 0
		for n, made := range records {
			i := at*perCodec + n
			client.Produce(r.ctx, made, func(got *kgo.Record, err error) {
				must("produce "+codec, err)
				if int(got.Offset)*partitions+int(got.Partition) != i {
					mu.Lock()
					wrong++
					mu.Unlock()
				}
			})
		}
		must("produce "+codec, client.Flush(r.ctx))
		equal("produce "+codec+": acknowledged offsets", 0, wrong)
		client.Close()
	}
}

// member is one consumer of the group, read in the background.
type member struct {
	client *kgo.Client
	mu     sync.Mutex
	owned  map[int32]bool
	cancel context.CancelFunc
	done   chan struct{}
}

func (r *run) member(seen *seen) *member {
	m := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	change := func(own bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, partition := range changed[r.topic] {
				if own {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	m.client = r.client(
		kgo.ConsumerGroup(r.group), kgo.ConsumeTopics(r.topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
	)
	ctx, cancel := context.WithCancel(r.ctx)
	m.cancel = cancel
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			fetches := m.client.PollRecords(ctx, 50)
			if ctx.Err() != nil {
				return
			}
			fetches.EachError(func(_ string, _ int32, err error) { must("consume", err) })
			fetches.EachRecord(seen.add)
		}
	}()
	return m
}

func (m *member) partitions() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var owned []int
	for partition := range m.owned {
		owned = append(owned, int(partition))
	}
	sort.Ints(owned)
	return owned
}

func (m *member) close() {
	m.cancel()
	<-m.done
	m.client.Close()
}

func (r *run) groupOfTwo() {
	seen := newSeen()
	first := r.member(seen)
	until("group: one member has every partition", func() bool { return len(first.partitions()) == 4 })
	second := r.member(seen)
	until("group: rebalanced two and two", func() bool {
		return len(first.partitions()) == 2 && len(second.partitions()) == 2
	})
	all := append(first.partitions(), second.partitions()...)
	sort.Ints(all)
	equal("group: every partition has one owner", []int{0, 1, 2, 3}, all)
	until("group: every record, contents exact", seen.complete)
	must("commit", second.client.CommitUncommittedOffsets(r.ctx))
	second.close()
	until("group: the member that stays has every partition", func() bool {
		return len(first.partitions()) == 4
	})
	described, err := r.admin.DescribeGroups(r.ctx, r.group)
	must("describe group", err)
	equal("describe: group has one member", 1, len(described[r.group].Members))
	first.close()

	ends := kadm.Offsets{}
	for partition := int32(0); partition < partitions; partition++ {
		ends.Add(kadm.Offset{Topic: r.topic, Partition: partition, At: perPartition, LeaderEpoch: -1, Metadata: "done"})
	}
	must("commit", r.admin.CommitAllOffsets(r.ctx, r.group, ends))
	committed, err := r.admin.FetchOffsets(r.ctx, r.group)
	must("fetch offsets", err)
	for partition := int32(0); partition < partitions; partition++ {
		got, found := committed.Lookup(r.topic, partition)
		equal(fmt.Sprintf("commit: read back %d", partition), "true 250 done",
			fmt.Sprintf("%t %d %s", found, got.At, got.Metadata))
	}
}

func (r *run) seekByTime() {
	const wanted = 500
	partition, offset := int32(wanted%partitions), int64(wanted/partitions)
	at := func(step string, millis, expected int64) {
		listed, err := r.admin.ListOffsetsAfterMilli(r.ctx, millis, r.topic)
		must(step, err)
		got, _ := listed.Lookup(r.topic, partition)
		must(step, got.Err)
		equal(step, expected, got.Offset)
	}
	at("seek by time: exact timestamp", timestamp(wanted).UnixMilli(), offset)
	at("seek by time: between two records", timestamp(wanted).UnixMilli()+1, offset+1)
	at("seek by time: beyond the end", timestamp(total).UnixMilli(), perPartition)

	client := r.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		r.topic: {partition: kgo.NewOffset().AfterMilli(timestamp(wanted).UnixMilli())},
	}))
	defer client.Close()
	seen := newSeen()
	until("seek by time: read from there", func() bool {
		ctx, cancel := context.WithTimeout(r.ctx, time.Second)
		defer cancel()
		client.PollRecords(ctx, 1).EachRecord(seen.add)
		return seen.first(int(partition)) >= 0
	})
	equal("seek by time: the record there", wanted, seen.first(int(partition)))
}

func (r *run) describeAndDelete() {
	details, err := r.admin.ListTopics(r.ctx, r.topic)
	must("describe topic", err)
	equal("describe: partitions", partitions, len(details[r.topic].Partitions))
	configs, err := r.admin.DescribeTopicConfigs(r.ctx, r.topic)
	must("describe configs", err)
	for _, config := range configs[0].Configs {
		if config.Key == "retention.ms" {
			equal("describe: retention.ms", "-1 DYNAMIC_TOPIC_CONFIG",
				fmt.Sprint(config.MaybeValue(), " ", config.Source))
		}
	}
	start, err := r.admin.ListStartOffsets(r.ctx, r.topic)
	must("list start offsets", err)
	end, err := r.admin.ListEndOffsets(r.ctx, r.topic)
	must("list end offsets", err)
	low, _ := start.Lookup(r.topic, 2)
	high, _ := end.Lookup(r.topic, 2)
	equal("offsets: low and high", "0 250", fmt.Sprint(low.Offset, " ", high.Offset))
	groups, err := r.admin.ListGroups(r.ctx)
	must("list groups", err)
	_, listed := groups[r.group]
	equal("list: the group is there", true, listed)

	_, err = r.admin.DeleteGroup(r.ctx, r.group)
	must("delete group", err)
	ok("delete: group")
	deleted, err := r.admin.DeleteTopics(r.ctx, r.topic)
	must("delete topic", err)
	must("delete topic", deleted.Error())
	until("delete: topic is gone", func() bool {
		topics, err := r.admin.ListTopics(r.ctx)
		must("list topics", err)
		return !topics.Has(r.topic)
	})
}

func main() {
	local := regexp.MustCompile(`^127\.0\.0\.1:\d{1,5}$`)
	if len(os.Args) != 2 || !local.MatchString(os.Args[1]) {
		fmt.Fprintln(os.Stderr, "refused: the bootstrap address must be 127.0.0.1:PORT")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	topic := fmt.Sprintf("compat-franz-go-%d-%d", os.Getpid(), time.Now().Unix())
	r := &run{ctx: ctx, address: os.Args[1], topic: topic, group: topic + "-group"}
	client := r.client()
	defer client.Close()
	r.admin = kadm.NewClient(client)
	r.create()
	r.produce()
	r.groupOfTwo()
	r.seekByTime()
	r.describeAndDelete()
}
