"""VehicleReID: identity, colour and type of a vehicle from its picture alone, on CPUs.

The body is EfficientNet-Lite0, which has ReLU6 and no gates, so that INT8 costs it little. Sources:
Tan and Le, EfficientNet, ICML 2019, and its Lite variants of 2020; Radenović et al., Fine-tuning
CNN Image Retrieval with No Human Annotation, TPAMI 2019 (pooling); Luo et al., Bag of Tricks and a
Strong Baseline for Deep Person Re-identification, CVPRW 2019 (the norm before the classifier).
"""
