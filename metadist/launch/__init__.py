"""Before step 0: trying the user's own parts (`trial`), settling where shards run (`groups`), going on where a run
stopped (`resume`), the shard that shows whether workers agree (`canary`), and what user and journal are told first
(`plan_line`, `opening`)."""
