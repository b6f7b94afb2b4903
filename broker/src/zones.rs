//! Zones: which one a client is in, by its own word, and who serves it there.
//!
//! ```text
//!   client.rack (Fetch 11+), else a tag of the client id ─▶ zone ─┬─▶ addresses told to it
//!                                                                 └─▶ who it may read from
//! ```
//!
//! **Invariant:** a zone decides where bytes flow, never what they are: a client that names a wrong
//! one pays for it, and reads and writes the same records.

mod redirects;

use std::borrow::Cow;
use std::collections::BTreeMap;

use controller::Image;
use protocol::{NodeId, TopicPartition};

pub(crate) use redirects::Redirects;

use crate::broker::{Broker, Endpoint};
use crate::limits::{MAX_CLIENT_ID_SEARCHED, MAX_ZONE_BYTES};

/// Tags of a client id that name its zone: ours, and those that clients of other brokers on shared
/// storage carry already.
const TAGS: [&str; 6] = [
    "zone",
    "automq_az",
    "warpstream_az",
    "ws_az",
    "diskless_az",
    "inkless_az",
];

/// What stands between the tags of a client id.
const SEPARATORS: [char; 4] = [',', ';', '&', ' '];

/// The zone that a client id names: `…,zone=ZONE` or another of [`TAGS`], the first that is one.
pub(crate) fn of_client_id(client_id: &str) -> Option<Cow<'_, str>> {
    let mut end = client_id.len().min(MAX_CLIENT_ID_SEARCHED);
    while !client_id.is_char_boundary(end) {
        end -= 1;
    }
    let tags = client_id[..end].split(SEPARATORS);
    let named = tags.filter_map(|tag| tag.split_once('='));
    let mut zones = named
        .filter(|(name, _)| TAGS.contains(name))
        .filter_map(|(_, value)| zone(decoded(value)?));
    zones.next()
}

/// What a client gave as its rack, if it may be a zone's name.
pub(crate) fn of_rack(rack: &str) -> Option<&str> {
    is_zone(rack).then_some(rack)
}

fn zone(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    is_zone(&name).then_some(name)
}

fn is_zone(name: &str) -> bool {
    (1..=MAX_ZONE_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Without the percent signs by which tags are written that are parts of a query.
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains('%') {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(byte).expect("two hexadecimal digits"));
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Who reads what for clients of each zone, when somebody else leads it: one broker of the zone for
/// each partition, so that its cache serves all of the zone's consumers. A pure function of
/// the image, so that all brokers say the same.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    zones: BTreeMap<String, Vec<NodeId>>,
}

impl Readers {
    /// Readers among `endpoints`; none unless the cluster reads by zones.
    pub(crate) fn of(
        broker: &Broker,
        image: &Image,
        endpoints: &BTreeMap<NodeId, Endpoint>,
    ) -> Self {
        let mut readers = Self::default();
        if !selects(broker, image) {
            return readers;
        }
        let live = image.live_brokers().map(|(_, broker)| broker);
        for broker in live.filter(|one| one.takes() && endpoints.contains_key(&one.node)) {
            if let Some(rack) = broker.rack.as_deref().and_then(of_rack) {
                let zone = readers.zones.entry(rack.to_owned()).or_default();
                zone.push(broker.node);
            }
        }
        readers
    }

    /// Who reads `tp` for clients of `zone`.
    pub(crate) fn reader(&self, tp: TopicPartition, zone: &str) -> Option<NodeId> {
        let nodes = self.zones.get(zone)?.iter().copied();
        nodes.max_by_key(|node| (weight(tp, *node), *node))
    }

    /// Who reads `tp` beside its leader, which serves its own zone itself.
    pub(crate) fn beside(&self, tp: TopicPartition, leader: NodeId) -> Vec<NodeId> {
        let others = self.zones.values().filter(|zone| !zone.contains(&leader));
        let weigh = |node: &NodeId| (weight(tp, *node), *node);
        let chosen = others.filter_map(|zone| zone.iter().copied().max_by_key(weigh));
        chosen.collect()
    }
}

/// Whether consumers are sent to brokers of their own zone (KIP-392).
pub(crate) fn selects(broker: &Broker, image: &Image) -> bool {
    let class = broker.config.values.text("replica.selector.class");
    class.ends_with("RackAwareReplicaSelector") && reads_beside(image)
}

/// Whether every broker reads what others lead: of this build and later, all do.
pub(crate) fn reads_beside(image: &Image) -> bool {
    image.level() >= 2
}

/// Rendezvous hashing: a broker that comes or goes moves only what it reads itself.
fn weight(tp: TopicPartition, node: NodeId) -> u64 {
    let topic = tp.topic.0.as_u128();
    let parts = [
        (topic >> 64) as u64,
        topic as u64,
        u64::from(tp.partition.cast_unsigned()),
        u64::from(node.0.cast_unsigned()),
    ];
    // Each step is a bijection that spreads one bit over all (splitmix64's finisher).
    parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash, part| {
        let mut mixed: u64 = hash ^ part;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use protocol::TopicId;
    use uuid::Uuid;

    use super::*;

    fn readers(zones: &[(&str, &[i32])]) -> Readers {
        let zone = |(name, nodes): &(&str, &[i32])| {
            let nodes = nodes.iter().map(|node| NodeId(*node)).collect();
            ((*name).to_owned(), nodes)
        };
        Readers {
            zones: zones.iter().map(zone).collect(),
        }
    }

    fn tps() -> impl Iterator<Item = TopicPartition> {
        (0..3000).map(|n| TopicPartition::new(TopicId(Uuid::from_u128(n / 10)), (n % 10) as i32))
    }

    #[test]
    fn each_zone_has_one_reader_of_a_partition_and_they_are_spread() {
        let all = readers(&[("a", &[1, 2, 3]), ("b", &[4, 5])]);
        let mut counts = BTreeMap::new();
        for tp in tps() {
            let a = all.reader(tp, "a").unwrap();
            let b = all.reader(tp, "b").unwrap();
            assert_eq!(all.reader(tp, "c"), None);
            for leader in 1..=3 {
                assert_eq!(all.beside(tp, NodeId(leader)), [b]);
            }
            assert_eq!(all.beside(tp, NodeId(4)), [a]);
            assert_eq!(all.beside(tp, NodeId(9)), [a, b], "a leader of no zone");
            *counts.entry(a.0).or_insert(0) += 1;
            *counts.entry(b.0).or_insert(0) += 1;
        }
        assert!(
            (1..=3).all(|node| (800..1200).contains(&counts[&node])),
            "{counts:?}"
        );
        assert!(
            (4..=5).all(|node| (1300..1700).contains(&counts[&node])),
            "{counts:?}"
        );
        // Who goes leaves only what it read itself.
        let fewer = readers(&[("a", &[1, 3])]);
        for tp in tps() {
            let before = all.reader(tp, "a").unwrap();
            let after = fewer.reader(tp, "a").unwrap();
            assert!(before == after || before == NodeId(2));
        }
    }

    #[test]
    fn client_ids_name_zones_in_the_forms_that_are_documented() {
        for (client_id, zone) in [
            ("app,zone=use1-az1", Some("use1-az1")),
            ("app;zone=use1-az1;broker_count=1", Some("use1-az1")),
            (
                "automq_type=producer&automq_az=us-east-1a&p",
                Some("us-east-1a"),
            ),
            (
                "automq_az=germanywestcentral%2F1",
                Some("germanywestcentral/1"),
            ),
            (
                "warpstream_az=eu-south-2a,ws_pas=equal_spread",
                Some("eu-south-2a"),
            ),
            ("ws_az=use1-az2,my-pod-1", Some("use1-az2")),
            ("my-producer,diskless_az=use1-az1", Some("use1-az1")),
            ("aaa=bbb, inkless_az=az1", Some("az1")),
            ("zone=,zone=b", Some("b")),
            ("", None),
            ("zone", None),
            ("my-zone=a", None),
            ("zone=a%2", None),
            ("zone=a%zz", None),
            ("zone=a%00", None),
            ("zone=a%ff", None),
            ("zone=\u{e4}", None),
            ("zone=a\nb", None),
        ] {
            let found = of_client_id(client_id);
            assert_eq!(found.as_deref(), zone, "{client_id:?}");
        }
    }

    #[test]
    fn what_is_too_long_names_no_zone() {
        let longest = "z".repeat(MAX_ZONE_BYTES);
        assert_eq!(of_rack(&longest), Some(&*longest));
        assert_eq!(of_rack(&format!("{longest}z")), None);
        assert_eq!(of_rack(""), None);
        assert_eq!(of_rack("a b"), None);
        let late = format!("{},zone=a", "\u{e4}".repeat(MAX_CLIENT_ID_SEARCHED));
        assert_eq!(of_client_id(&late), None);
        let early = format!("zone=a,{}", "\u{e4}".repeat(MAX_CLIENT_ID_SEARCHED));
        assert_eq!(of_client_id(&early).as_deref(), Some("a"));
    }
}
