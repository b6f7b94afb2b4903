//! The coordinator of transactions.

mod state;

pub use state::TransactionState;
