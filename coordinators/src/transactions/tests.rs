//! Tests of the machine as a whole.

mod crash;
mod rig;
mod scenarios;
mod simulation;
mod table;
