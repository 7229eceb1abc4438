"""The daemon's small HTTP side: is it alive, does it do its work, what does it count. No values, no writes."""
