//! One value that clients write and read, and whether each read could see what it saw.
//!
//! **Rule:** a read may give the value of a write that began before the read ended, unless another
//! write that was acknowledged lies wholly between the two. A write whose answer was lost has no
//! end: it may take effect at any time later. One that was refused never does.

use std::fmt::Debug;

/// A moment: moments of one history are in the order in which things happened.
pub type Moment = u64;

/// A value over time.
#[derive(Clone, Debug)]
pub struct Register<V> {
    writes: Vec<Write<V>>,
    reads: Vec<Read<V>>,
}

#[derive(Clone, Debug)]
struct Write<V> {
    value: V,
    began: Moment,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unknown,
    Refused,
    Acknowledged(Moment),
}

#[derive(Clone, Debug)]
struct Read<V> {
    value: V,
    began: Moment,
    ended: Moment,
}

/// A read that no order of the writes explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongRead<V> {
    /// What it gave.
    pub value: V,
    /// When it began.
    pub began: Moment,
    /// What it might have given.
    pub possible: Vec<V>,
}

/// A write that has begun.
#[derive(Clone, Copy, Debug)]
pub struct WriteId(usize);

// === impl Register ===

impl<V: Clone + Debug + PartialEq> Register<V> {
    /// One that holds `initial` from the beginning.
    pub fn new(initial: V) -> Self {
        let first = Write {
            value: initial,
            began: 0,
            end: End::Acknowledged(0),
        };
        Self {
            writes: vec![first],
            reads: Vec::new(),
        }
    }

    /// A write of `value` begins. Until it ends its outcome is unknown.
    pub fn writing(&mut self, value: V, now: Moment) -> WriteId {
        self.writes.push(Write {
            value,
            began: now,
            end: End::Unknown,
        });
        WriteId(self.writes.len() - 1)
    }

    /// The write took effect before now.
    pub fn acknowledged(&mut self, write: WriteId, now: Moment) {
        self.writes[write.0].end = End::Acknowledged(now);
    }

    /// The write had no effect and will have none.
    pub fn refused(&mut self, write: WriteId) {
        self.writes[write.0].end = End::Refused;
    }

    /// A read that went on from `began` to `ended` gave `value`.
    pub fn read(&mut self, value: V, began: Moment, ended: Moment) {
        self.reads.push(Read {
            value,
            began,
            ended,
        });
    }

    /// Reads that cannot be right.
    pub fn wrong_reads(&self) -> Vec<WrongRead<V>> {
        let wrong = |read: &Read<V>| {
            let possible = self.possible(read);
            let fits = possible.contains(&read.value);
            (!fits).then(|| WrongRead {
                value: read.value.clone(),
                began: read.began,
                possible,
            })
        };
        self.reads.iter().filter_map(wrong).collect()
    }

    fn possible(&self, read: &Read<V>) -> Vec<V> {
        // The newest beginning of a write that was over when the read began.
        let over =
            |write: &&Write<V>| matches!(write.end, End::Acknowledged(at) if at < read.began);
        let newest = self.writes.iter().filter(over).map(|write| write.began);
        let newest = newest.max().unwrap_or(0);
        let stands = |write: &&Write<V>| match write.end {
            End::Refused => false,
            End::Unknown => write.began < read.ended,
            End::Acknowledged(at) => write.began < read.ended && at >= newest,
        };
        let standing = self.writes.iter().filter(stands);
        standing.map(|write| write.value.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 at first, 1 written from 1 to 2, 2 written from 5 to 6.
    fn written() -> Register<u32> {
        let mut register = Register::new(0);
        let one = register.writing(1, 1);
        register.acknowledged(one, 2);
        let two = register.writing(2, 5);
        register.acknowledged(two, 6);
        register
    }

    #[track_caller]
    fn check(register: &Register<u32>, wrong: &[u32]) {
        let found = register.wrong_reads();
        let found: Vec<u32> = found.into_iter().map(|read| read.value).collect();
        assert_eq!(found, wrong);
    }

    #[test]
    fn a_read_gives_the_newest_write_that_is_over() {
        let mut register = written();
        register.read(1, 3, 4);
        register.read(2, 7, 8);
        check(&register, &[]);
        register.read(1, 7, 8);
        register.read(0, 3, 4);
        register.read(9, 7, 8);
        check(&register, &[1, 0, 9]);
    }

    #[test]
    fn a_read_beside_a_write_gives_either() {
        let mut register = Register::new(0);
        let one = register.writing(1, 1);
        register.read(0, 2, 3);
        register.read(1, 2, 3);
        register.acknowledged(one, 4);
        check(&register, &[]);
        register.read(0, 5, 6);
        check(&register, &[0]);
    }

    #[test]
    fn a_lost_answer_may_take_effect_at_any_time_later_but_not_before() {
        let mut register = written();
        register.writing(3, 9);
        register.read(2, 10, 11);
        register.read(3, 12, 13);
        let four = register.writing(4, 14);
        register.acknowledged(four, 15);
        register.read(3, 16, 17);
        check(&register, &[]);
        register.read(3, 7, 8);
        check(&register, &[3]);
    }

    #[test]
    fn what_was_refused_never_takes_effect() {
        let mut register = written();
        let refused = register.writing(3, 9);
        register.refused(refused);
        register.read(3, 10, 11);
        check(&register, &[3]);
    }
}
