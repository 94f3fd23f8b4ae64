//! Whole configurations: every code by a golden file, sites, secrets, certificates, wild input.

mod certificate;
mod conf;
mod findings;
mod large;
mod leaks;
mod make;
mod publish;
mod same_as;
mod site;
mod wild;
