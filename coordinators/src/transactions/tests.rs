//! Tests of the machine as a whole.

mod rig;
mod scenarios;
mod simulation;
mod table;
