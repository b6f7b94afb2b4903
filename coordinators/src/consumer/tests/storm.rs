//! Many members at once.

use super::*;

const MEMBERS: usize = 200;

/// How many partitions are with another member than before.
fn moved(before: &[Client], after: &[Client]) -> usize {
    let others = before.iter().zip(after);
    others
        .map(|(before, after)| after.held.without(&before.held).len())
        .sum()
}

#[test]
fn two_hundred_members_share_a_thousand_partitions() {
    let mut bench = Bench::new(&[("a", 1, 500), ("b", 2, 500)]);
    let mut clients: Vec<_> = (0..MEMBERS)
        .map(|number| Client::new(&format!("m{number:03}"), &["a", "b"]))
        .collect();
    let rounds = bench.settle(&mut clients);
    println!("join: {rounds} rounds, {} heartbeats", bench.heartbeats);
    check(&bench.group);
    assert!(clients.iter().all(|client| client.held.len() == 5));

    // One leaves: only what it had moves.
    let gone = clients.pop().unwrap();
    bench.send(&gone.leaves(LEAVE_EPOCH)).unwrap();
    let (before, started) = (clients.clone(), bench.heartbeats);
    let rounds = bench.settle(&mut clients);
    let moves = moved(&before, &clients);
    println!(
        "leave: {moves} partitions moved, {rounds} rounds, {} heartbeats",
        bench.heartbeats - started
    );
    assert_eq!(moves, 5);

    // Half of them are new.
    for client in clients.drain(..MEMBERS / 2) {
        bench.send(&client.leaves(LEAVE_EPOCH)).unwrap();
    }
    let before: Vec<_> = clients.clone();
    clients
        .extend((0..MEMBERS / 2).map(|number| Client::new(&format!("n{number:03}"), &["a", "b"])));
    let started = bench.heartbeats;
    let rounds = bench.settle(&mut clients);
    let moves = moved(&before, &clients);
    println!(
        "half replaced: {moves} partitions came to those who stayed, {rounds} rounds, {} heartbeats",
        bench.heartbeats - started
    );
    let held: Assignment = clients
        .iter()
        .flat_map(|client| client.held.iter())
        .collect();
    assert_eq!(held, bench.cluster.all());
    assert!(
        clients
            .iter()
            .all(|client| (5..=6).contains(&client.held.len()))
    );
    assert_eq!(durable(&bench.log.fold()), durable(&bench.group));
}

#[test]
fn chained_joins_and_leaves_refuse_nobody() {
    let mut bench = Bench::new(&[("t", 1, 12)]);
    let mut clients = Vec::new();
    for number in 0..60 {
        clients.push(Client::new(&format!("m{number:02}"), &["t"]));
        // Everybody is in the midst of the rebalance before.
        for client in &mut clients {
            bench.beat(client);
        }
        if number % 3 == 2 {
            let gone = clients.remove(number % clients.len());
            bench.send(&gone.leaves(LEAVE_EPOCH)).unwrap();
        }
        check(&bench.group);
    }
    bench.settle(&mut clients);
    let held: Assignment = clients
        .iter()
        .flat_map(|client| client.held.iter())
        .collect();
    assert_eq!(held, bench.cluster.all());
}
