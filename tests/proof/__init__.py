"""What the proof is made of, and what it came to: see docs/proof.md."""
