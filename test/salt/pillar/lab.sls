# What the lab adds to any site's pillar: it has no way to ClamAV's mirrors, so the signatures are a file.
smtpout:
  clamav:
    signatures:
      mirrors: [localhost]
      exclude: [main, daily, bytecode]
      urls: ['file:///srv/formula/test/lab/signatures/lab.ndb']
