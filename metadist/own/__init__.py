"""A user's own code, named in the configuration: imported (`code`), read and hashed (`source`), shipped (`parcel`)."""
